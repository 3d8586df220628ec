"""What is taken for a secret, and how it is shown; which variables travel."""

from __future__ import annotations

import pytest

from raytrainer.errors import Problem
from raytrainer.job import OF_MLFLOW, travelling_variables
from raytrainer.secrets import has_credentials, masked, names_secret, shown, without_secrets


@pytest.mark.parametrize(
    "name",
    [
        *("hub_token", "push_to_hub_token", "--hub_token", "training.hub_token", "token", "HF_TOKEN", "GIT_TOKEN"),
        *("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "api_key", "db.password", "client_secret"),
    ],
)
def test_secrets_by_name(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize(
    "name", ["pad_token", "eos_token", "mask_token", "tokenizer", "data.tokens", "label_key", "max_new_tokens", "team"]
)
def test_what_is_none(name: str) -> None:
    assert not names_secret(name)


def test_a_command_line_without_them() -> None:
    command = [
        "train.py",
        "--hub_token",
        "abc",
        "--lr",
        "1",
        "training.hub_token=abc",
        "--to=http://a:abc@h/x",
        "--token=abc",
    ]
    expected = ["train.py", "--hub_token", "***", "--lr", "1", "training.hub_token=***", "--to=http://***@h/x"]
    assert without_secrets(command) == [*expected, "--token=***"]
    assert without_secrets(["--token", "--lr", "1"]) == ["--token", "--lr", "1"]


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://db/mlflow?user=anna&password=s3cret",
        "postgresql://db/mlflow?password=s3cret&user=anna",
        "http://anna:p@s3cret@host/runs",
    ],
)
def test_an_address_is_shown_without_them_wherever_it_is(address: str) -> None:
    (word,) = without_secrets([f"mlflow.tracking_uri={address}"])
    said = [word, str(shown({"uri": [address]})), str(Problem("mlflow.tracking_uri", address, "no", "yes"))]
    assert all("s3cret" not in each and each.count("***") == 1 for each in said)
    assert has_credentials(address)


def test_values_and_problems_without_them() -> None:
    seen = {"hub_token": "abc", "lr": 1, "hub": ["postgresql://a:abc@db"], "api_key": None}
    assert shown(seen) == {"hub_token": "***", "lr": 1, "hub": ["postgresql://***@db"], "api_key": None}
    assert "abc" not in str(Problem("training", seen, "no", "yes"))
    assert "abc" not in str(Problem("training.hub_token (run.yaml:3:4)", "abc", "no", "yes"))
    assert has_credentials("s3://key@bucket/runs") and not has_credentials("s3://bucket/runs?name=a@b")


def test_only_variables_that_are_named_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_TOKEN", "GIVEN", "GIVEN_TOO", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
    asked = {"MLFLOW_TRACKING_TOKEN", "GIVEN", "GIVEN_TOO", "HF_HUB_OFFLINE"}
    assert travelling_variables().keys() & asked == {"HF_HUB_OFFLINE"}
    assert travelling_variables(["GIVEN"]).keys() & asked == {"HF_HUB_OFFLINE", "GIVEN"}
    assert travelling_variables([*OF_MLFLOW]).keys() & asked == {"HF_HUB_OFFLINE", "MLFLOW_TRACKING_TOKEN"}


def test_what_is_no_secret_stays() -> None:
    text = "--tokenizer_name=bert --pad_token=[PAD] sqlite:///mlflow.db?timeout=30"
    assert masked(text) == text
    assert masked("s3://bucket/runs?access_key=anna&secret_key=abc&region=eu") == (
        "s3://bucket/runs?access_key=***&secret_key=***&region=eu"
    )
