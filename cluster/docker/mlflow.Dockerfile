# MLflow's server, with what PostgreSQL and S3 need.
#
#   docker build -f cluster/docker/mlflow.Dockerfile -t registry.example.com/me/mlflow:1 .
FROM python:3.11.14-slim-bookworm
RUN useradd --uid 1000 --create-home mlflow
USER 1000
ENV PATH=/home/mlflow/venv/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /home/mlflow/venv
COPY requirements.lock /home/mlflow/
RUN pip install mlflow boto3 psycopg2-binary==2.9.11 -c /home/mlflow/requirements.lock
WORKDIR /home/mlflow
