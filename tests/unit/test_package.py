"""Which files a job takes along, and what it is told of the others."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from raytrainer.errors import ArgumentsError, ResourcesError
from raytrainer.launch import package as packages
from raytrainer.launch.package import package
from raytrainer.launch.submit import of_config, requirements, variables

LARGE = 11 * 2**20


def fill(root: Path, *names: str, size: int = 10) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def test_what_no_job_needs_stays(tmp_path: Path) -> None:
    fill(tmp_path, "train.py", "package/module.py", "package/small.csv")
    fill(tmp_path, ".git/config", "venv/pyvenv.cfg", "venv/lib/torch.py", "package/__pycache__/module.pyc", ".ray/x")
    fill(tmp_path, "out/checkpoint-12/model.bin", "runs/dates/run.json", "secret/key", "thing.egg-info/PKG-INFO")
    (tmp_path / ".gitignore").write_text("secret/\n")
    chosen = package(tmp_path, [], str(tmp_path / "runs"))
    assert set(chosen.files) == {".gitignore", "train.py", "package/module.py", "package/small.csv"}


def test_large_data_stays_and_is_told_unless_the_config_names_it(tmp_path: Path) -> None:
    fill(tmp_path, "train.parquet", "other.parquet", size=LARGE)
    fill(tmp_path, "ignored/run.yaml")
    (tmp_path / ".gitignore").write_text("ignored/\n")
    chosen = package(tmp_path, ["train.parquet", "ignored/run.yaml", "/shared/data.jsonl", "absent.jsonl"], None)
    assert set(chosen.files) == {".gitignore", "train.parquet", "ignored/run.yaml"}
    assert [(each.path, each.size) for each in chosen.left_out] == [("other.parquet", LARGE)]


def test_a_pattern_is_what_it_finds(tmp_path: Path) -> None:
    fill(tmp_path, "data/a.parquet", "data/deep/b.parquet", size=LARGE)
    fill(tmp_path, "data/c.jsonl", "data/d.txt")
    (tmp_path / ".gitignore").write_text("*.jsonl\n*.txt\n")
    chosen = package(tmp_path, ["data/**/*.parquet", str(tmp_path / "data/*.jsonl"), "s3://bucket/*.csv"], None)
    assert set(chosen.files) == {".gitignore", "data/a.parquet", "data/deep/b.parquet", "data/c.jsonl"}
    with pytest.raises(ResourcesError, match=r"\.\./data/\*\.txt.*it is not below"):
        package(tmp_path / "data" / "deep", ["../../data/*.txt"], None)


def test_a_job_gets_the_data_and_the_model_that_its_config_names(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    model = "model: {name: models/first, tokenizer: models/own}"
    config.write_text(f"name: x\ntask: masked-lm\n{model}\ndata: {{train: [a.txt, 'b/*.txt'], eval: 5, test: c.txt}}\n")
    needed = ["run.yaml", "a.txt", "b/*.txt", "c.txt", "models/first", "models/own"]
    assert of_config(str(config), [], tmp_path).needed == needed
    of_hub = ["data.hub=somebody/texts", "data.train='train[:9]'", "data.test=test"]
    assert of_config(str(config), of_hub, tmp_path).needed == ["run.yaml", "models/first", "models/own"]


def test_a_sweeps_job_gets_the_models_and_the_data_that_it_tries(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "name: x\ntask: masked-lm\nmodel: {name: models/first}\ndata: {train: a.txt, eval: 5}\n"
        "training: {max_steps: 4, eval_strategy: steps}\n"
    )
    (tmp_path / "sweep.yaml").write_text(
        "base: run.yaml\nsearch_space:\n  model.name: {choice: [models/second, models/third]}\n"
        "  data.train: {grid: [b.txt, [c.txt, d.txt]]}\n  training.learning_rate: {uniform: [0.1, 0.2]}\n"
        "tune: {metric: eval_loss, mode: min, num_samples: 2}\n"
    )
    needed = of_config(str(tmp_path / "sweep.yaml"), [], tmp_path).needed
    tried = {"models/second", "models/third", "b.txt", "c.txt", "d.txt"}
    assert set(needed) == {"sweep.yaml", "run.yaml", "models/first", "a.txt"} | tried


def test_what_is_needed_has_to_be_in_the_folder(tmp_path: Path) -> None:
    fill(tmp_path, "beside.jsonl")
    (tmp_path / "project").mkdir()
    with pytest.raises(ResourcesError, match=r"beside\.jsonl.*it is not below"):
        package(tmp_path / "project", ["../beside.jsonl"], None)


def test_the_same_files_are_the_same_archive(tmp_path: Path) -> None:
    root = tmp_path / "project"
    fill(root, "a.py", "folder/b.py")
    (root / "a.py").chmod(0o755)
    sizes = [package(root, [], None).write(tmp_path / name) for name in ("one.zip", "two.zip")]
    os.utime(root / "a.py", (0, 0))
    package(root, [], None).write(tmp_path / "three.zip")
    contents = [(tmp_path / name).read_bytes() for name in ("one.zip", "two.zip", "three.zip")]
    assert sizes[0] == len(contents[0])
    assert len(set(contents)) == 1
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert sorted(archive.namelist()) == ["a.py", "folder/b.py"]
        assert archive.getinfo("a.py").external_attr >> 16 & 0o111


def test_over_the_limit_the_largest_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "project", "large.py", size=3000)
    fill(tmp_path / "project", "small.py")
    monkeypatch.setattr(packages, "LIMIT", 2000)
    with pytest.raises(ResourcesError, match=r"the largest files are large\.py"):
        package(tmp_path / "project", [], None).write(tmp_path / "archive.zip")


def test_a_sweeps_job_gets_its_base_and_goes_on_when_it_is_retried(tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "run.yaml").write_text(
        "name: words\ntrainer: module:build\ntraining: {max_steps: 4, eval_strategy: steps}\nrun: {storage_path: out}\n"
    )
    (folder / "sweep.yaml").write_text(
        "base: run.yaml\nname: words-sweep\nsearch_space: {training.learning_rate: {uniform: [0.1, 0.2]}}\n"
        "tune: {metric: eval_loss, mode: min, num_samples: 2}\n"
    )
    made = of_config(str(folder / "sweep.yaml"), ["tune.num_samples=3"], tmp_path)
    assert made.command == [
        *("raytrainer", "tune", "configs/sweep.yaml"),
        *("tune.num_samples=3", "run.existing=resume"),
    ]
    assert set(made.needed) == {"configs/sweep.yaml", "configs/run.yaml"}
    assert (made.name, made.storage) == ("words-sweep", str(tmp_path / "out"))
    asked = of_config(str(folder / "run.yaml"), ["run.existing=replace"], tmp_path)
    assert asked.command == ["raytrainer", "train", "configs/run.yaml", "run.existing=replace"]
    with pytest.raises(ArgumentsError, match="it is not below"):
        of_config(str(folder / "run.yaml"), [], tmp_path / "elsewhere")


def test_a_job_gets_what_its_config_builds_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, shared, home = (tmp_path / name for name in ("project", "shared", "home"))
    own = "trainer: module:build\ntraining: {max_steps: 4}\n"
    bases = {project / "configs/a.yaml": "base: a/b.yaml\n", project / "configs/a/b.yaml": own}
    bases |= {shared / "c.yaml": "base: d.yaml\n", shared / "d.yaml": own, home / "e.yaml": own}
    for file, text in bases.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SITE", "a")
    config = project / "configs" / "run.yaml"
    config.write_text(f"base: ['${{SITE}}.yaml', {shared}/c.yaml, ~/e.yaml]\nname: x\n")
    (project / ".gitignore").write_text("*.yaml\n")
    made = of_config(str(config), [], project)
    assert set(package(project, made.needed, None).files) == {
        *(".gitignore", "configs/run.yaml", "configs/a.yaml", "configs/a/b.yaml")
    }
    config.write_text("base: ../../home/e.yaml\nname: x\n")
    with pytest.raises(ResourcesError, match="it is not below"):
        package(project, of_config(str(config), [], project).needed, None)


def test_variables_travel_when_they_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:hunter2@mlflow")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "dates")
    monkeypatch.setenv("MY_TOKEN", "abc")
    monkeypatch.setenv("OTHER", "abc")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    assert variables(["MY_TOKEN", "X=1=2"]) == {"MLFLOW_EXPERIMENT_NAME": "dates", "MY_TOKEN": "abc", "X": "1=2"}
    assert "can read MY_TOKEN" in capsys.readouterr().err
    with pytest.raises(ArgumentsError, match="NOT_THERE"):
        variables(["NOT_THERE"])


def test_requirements_are_pinned(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# ours\ntransformers==5.23.0  # pinned\n\nmine @ https://example.com/mine.whl\n")
    assert requirements(str(file)) == ["transformers==5.23.0", "mine @ https://example.com/mine.whl"]
    frozen = [
        "a @ git+https://example.com/a@1f0c#subdirectory=py",
        "https://example.com/b-1-py3-none-any.whl#sha256=0a",
    ]
    file.write_text("\n".join([f"{frozen[0]}  # ours", frozen[1]]))
    assert requirements(str(file)) == frozen
    file.write_text("transformers>=5\n")
    with pytest.raises(ArgumentsError, match="its version is not pinned"):
        requirements(str(file))
