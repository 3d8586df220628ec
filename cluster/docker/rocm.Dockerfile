# raytrainer for AMD GPUs. torch and the ROCm libraries are those of AMD's image; the driver comes from the node.
#
#   docker build -f cluster/docker/rocm.Dockerfile -t registry.example.com/me/raytrainer:rocm-1 .
ARG BASE=rocm/pytorch:rocm7.0_ubuntu24.04_py3.12_pytorch_release_2.8.0

# What is installed, by name: changes to anything else in pyproject.toml rebuild nothing below.
FROM python:3.11.14-slim-bookworm AS names
COPY pyproject.toml cluster/docker/names.py /
RUN python names.py tasks examples optuna > names.txt

FROM ${BASE}
# KubeRay asks whether Ray is well with bash and wget; Ray's cluster launcher copies with rsync. Ubuntu's image has a user 1000 already.
RUN apt-get update \
    && apt-get install -y --no-install-recommends rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    && (userdel --remove ubuntu || true) \
    && useradd --uid 1000 --create-home ray \
    && mkdir /app && chown ray:ray /app
USER 1000
# A Python of the user's own, which sees torch where AMD's image has it.
RUN site=$(python3 -c "import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])") \
    && python3 -m venv /home/ray/venv \
    && echo "$site" > "$(echo /home/ray/venv/lib/python3.*/site-packages)/amd.pth"
ENV PATH=/home/ray/venv/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Heavy, and the same until requirements.lock changes; torch stays AMD's.
COPY requirements.lock /home/ray/
RUN pip list --format freeze | grep -E '^(torch|torchvision|triton|pytorch-triton-rocm)==' > /home/ray/constraints.txt \
    && grep -vE '^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' /home/ray/requirements.lock >> /home/ray/constraints.txt
COPY --from=names names.txt /home/ray/
# With boto3 Ray fetches a zip from s3://.
RUN pip install -r /home/ray/names.txt boto3 -c /home/ray/constraints.txt \
    && python -c "import torch; assert torch.version.hip"

# Light: the code. Your own goes here, too.
WORKDIR /app
COPY --chown=1000:1000 pyproject.toml README.md LICENSE ./
COPY --chown=1000:1000 raytrainer raytrainer
RUN pip install --no-deps .
COPY --chown=1000:1000 examples examples
RUN python examples/data.py dates
