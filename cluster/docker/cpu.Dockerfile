# raytrainer for nodes without GPU, and for heads.
#
#   docker build -f cluster/docker/cpu.Dockerfile --build-arg TORCH_INDEX=<the index with torch's CPU builds> \
#     -t registry.example.com/me/raytrainer:cpu-1 .
ARG BASE=python:3.11.14-slim-bookworm

# What is installed, by name: changes to anything else in pyproject.toml rebuild nothing below.
FROM ${BASE} AS names
COPY pyproject.toml cluster/docker/names.py /
RUN python names.py tasks examples optuna > names.txt

FROM ${BASE}
# KubeRay asks whether Ray is well with bash and wget; Ray's cluster launcher copies with rsync.
RUN apt-get update \
    && apt-get install -y --no-install-recommends rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home ray \
    && mkdir /app && chown ray:ray /app
USER 1000
ENV PATH=/home/ray/venv/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /home/ray/venv

# Heavy, and the same until requirements.lock changes. Without TORCH_INDEX it is the CUDA build, which works, too.
COPY requirements.lock /home/ray/
ARG TORCH_INDEX=
RUN pip install ${TORCH_INDEX:+-i "$TORCH_INDEX"} "$(grep '^torch==' /home/ray/requirements.lock)"
COPY --from=names names.txt /home/ray/
# With boto3 Ray fetches a zip from s3://.
RUN pip install -r /home/ray/names.txt boto3 -c /home/ray/requirements.lock

# Light: the code. Your own goes here, too.
WORKDIR /app
COPY --chown=1000:1000 pyproject.toml README.md LICENSE ./
COPY --chown=1000:1000 raytrainer raytrainer
RUN pip install --no-deps .
COPY --chown=1000:1000 examples examples
RUN python examples/data.py dates
