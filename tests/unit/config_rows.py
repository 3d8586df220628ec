"""Configs that are wrong in one way each, and what the error says."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

GOOD = {
    "name": "name: dates",
    "task": "task: seq2seq",
    "model": "model: {from_config: {model_type: t5, d_model: 64}, tokenizer: characters}",
    "data": "data: {train: train.jsonl, eval: eval.jsonl, source: text, target: iso}",
    "training": "training: {learning_rate: 3.0e-3, max_steps: 100, predict_with_generate: true}",
    "scaling": "scaling: {num_workers: 2}",
    "run": "run: {storage_path: runs, keep: {last: 2}}",
    "mlflow": "mlflow: {tracking_uri: sqlite:///mlflow.db, experiment: dates}",
}
CLASSES = {
    **GOOD,
    "task": "task: text-classification",
    "data": "data: {train: train.csv, eval: 0.1, text: text, label: label}",
    "training": "training: {max_steps: 100}",
}


@dataclass(frozen=True)
class Row:
    """A config that is wrong, and its one problem: the setting with its place, and parts of reason and fix."""

    setting: str
    reason: str
    fix: str
    text: str | bytes = ""
    overrides: tuple[str, ...] = ()
    files: dict[str, str | bytes] = field(default_factory=dict)
    seen: str | None = None
    made: str = "file"

    def write(self, folder: Path) -> str:
        """Write the files into a folder, and return what the config is called from there."""
        for name, text in {"run.yaml": self.text, **self.files}.items():
            (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        whole = folder / "run.yaml"
        if self.made != "file":
            whole.unlink()
        if self.made == "folder":
            whole.mkdir()
        elif self.made == "fifo":
            os.mkfifo(whole)
        elif self.made == "100 MB":
            with open(whole, "wb") as file:
                file.truncate(100_000_000)
        elif self.made == "below a file":
            (folder / "file").touch()
            return "file/run.yaml"
        return "run.yaml"


def config(base: dict[str, str] = GOOD, /, **lines: str | None) -> str:
    """Return a good config with other lines in place of some; a line of None is left out."""
    return "".join(f"{line}\n" for line in {**base, **lines}.values() if line is not None)


def wrong(lines: str, setting: str, reason: str, fix: str, base: dict[str, str] = GOOD, seen: str | None = None) -> Row:
    """Return the row of a config in which one line is another one."""
    return Row(setting, reason, fix, config(base, **{lines.partition(":")[0]: lines}), seen=seen)


def training(fields: str, setting: str, reason: str, fix: str) -> Row:
    """Return the row of a text classification with these training arguments."""
    return wrong(f"training: {{{fields}}}", setting, reason, fix, CLASSES)


SPELLING = {
    "top": wrong("trainig: {}", "trainig (run.yaml:9:1)", "there is no setting trainig", "training"),
    "scaling": wrong(
        "scaling: {num_worker: 2}", "scaling.num_worker (run.yaml:6:11)", "scaling has no setting", "num_workers"
    ),
    "run": wrong("run: {max_failure: 2}", "run.max_failure (run.yaml:7:7)", "run has no setting", "max_failures"),
    "keep": wrong("run: {keep: {lst: 2}}", "run.keep.lst (run.yaml:7:14)", "run.keep has no setting lst", "last"),
    "mlflow": wrong("mlflow: {tracking: x}", "mlflow.tracking (run.yaml:8:10)", "no setting", "tracking_uri"),
    "data": wrong(
        "data: {train: a.csv, eval: b.csv, sorce: t}", "data.sorce (run.yaml:4:35)", "data has no setting", "source"
    ),
    "another task's": wrong(
        "data: {train: a.csv, eval: b.csv, packing: true}", "data.packing (run.yaml:4:35)", "no setting", "one of"
    ),
    "max_samples": wrong(
        "data: {train: a.csv, max_samples: {tran: 3}}", "data.max_samples.tran (run.yaml:4:36)", "no setting", "train"
    ),
    "model": wrong("model: {nam: t5}", "model.nam (run.yaml:3:9)", "model has no setting nam", "name"),
    "tokenizer": wrong(
        "model: {name: t5, tokenizer: {kind: bpe, vocab: 99}}",
        "model.tokenizer.vocab (run.yaml:3:42)",
        "model.tokenizer has no setting vocab",
        "vocab_size",
    ),
    "peft": wrong("model: {name: t5, peft: {rr: 8}}", "model.peft.rr (run.yaml:3:26)", "no setting rr", "r"),
    "training": wrong(
        "training: {learning_rat: 1}", "training.learning_rat (run.yaml:5:12)", "no setting", "learning_rate"
    ),
    "of seq2seq": training(
        "predict_with_generate: true",
        "training.predict_with_generate (run.yaml:5:12)",
        "it belongs to task: seq2seq",
        "without it",
    ),
    "output_dir": training(
        "output_dir: out", "training.output_dir (run.yaml:5:12)", "the run's folder is what it is", "run.storage_path"
    ),
    "rank": training("local_rank: 0", "training.local_rank (run.yaml:5:12)", "their ranks from Ray", "nothing"),
    "resume": training(
        "resume_from_checkpoint: a", "training.resume_from_checkpoint (run.yaml:5:12)", "do not read it", "run.existing"
    ),
    "task": wrong("task: seq2sec", "task (run.yaml:2:1)", "there is no such task", "seq2seq"),
}
TYPES = {
    "name": wrong("name: 7", "name (run.yaml:1:1)", "it is a whole number", 'in quotes it is text: "7"'),
    "task": wrong("task: [seq2seq]", "task (run.yaml:2:1)", "there is no such task", "one of causal-lm"),
    "num_workers": wrong(
        "scaling: {num_workers: two}",
        "scaling.num_workers (run.yaml:6:11)",
        "it is text",
        "a whole number of at least 1",
    ),
    "1.2": wrong("scaling: {use_gpu: yes}", "scaling.use_gpu (run.yaml:6:11)", "it is text", "true or false"),
    "number as key": wrong("scaling: {2: 3}", "scaling[2] (run.yaml:6:11)", "the name is a number", '"2":', seen="2:"),
    "number as column": wrong(
        "data: {train: a.csv, filter: {2: 3}}", "data.filter[2] (run.yaml:4:31)", "the name is a number", '"2":'
    ),
    "section": wrong("scaling: 2", "scaling (run.yaml:6:1)", "it is a whole number", "a mapping with num_workers"),
    "null": wrong("run: {storage_path: null}", "run.storage_path (run.yaml:7:7)", "it is null", "text"),
    "train": wrong(
        "data: {train: 5}", "data.train (run.yaml:4:8)", "it is a whole number", "text or a list (each text)"
    ),
    "item": wrong("data: {train: [a.csv, 5]}", "data.train[1] (run.yaml:4:23)", "it is a whole number", "text"),
    "tags": wrong("mlflow: {tags: {a: 1}}", "mlflow.tags.a (run.yaml:8:17)", "it is a whole number", 'text: "1"'),
    "float as int": training(
        "max_steps: 1e3", "training.max_steps (run.yaml:5:12)", "it is a number", "a whole number of at least -1"
    ),
    "text as float": training(
        "learning_rate: fast", "training.learning_rate (run.yaml:5:12)", "it is text", "a number of at least 0"
    ),
    "int as bool": training("bf16: 1", "training.bf16 (run.yaml:5:12)", "it is a whole number", "true or false"),
    "dict": training(
        "lr_scheduler_kwargs: [1]", "training.lr_scheduler_kwargs (run.yaml:5:12)", "it is a list", "a mapping or text"
    ),
    "peft": wrong(
        "model: {name: t5, peft: {r: 8, lora_alpha: 1.5}}",
        "model.peft.lora_alpha (run.yaml:3:32)",
        "it is a number",
        "a whole number",
    ),
    "training": wrong("training: fast", "training (run.yaml:5:1)", "it is text", "a mapping"),
    "register": wrong("mlflow: {register: 3}", "mlflow.register (run.yaml:8:10)", "it is a whole number", "text"),
}
RANGES = {
    "name": wrong("name: a/b", "name (run.yaml:1:1)", "it is not of the right form", "letters, digits, dots"),
    "no name": wrong("name: ''", "name (run.yaml:1:1)", "it is empty", "letters, digits, dots"),
    "workers": wrong(
        "scaling: {num_workers: 0}", "scaling.num_workers (run.yaml:6:11)", "it is out of range", "least 1"
    ),
    "elastic": wrong(
        "scaling: {num_workers: [2, 4, 8]}", "scaling.num_workers (run.yaml:6:11)", "a list of 3", "list of 2"
    ),
    "least": wrong(
        "scaling: {num_workers: [0, 8]}", "scaling.num_workers[0] (run.yaml:6:25)", "out of range", "least 1"
    ),
    "failures": wrong("run: {max_failures: -2}", "run.max_failures (run.yaml:7:7)", "out of range", "at least -1"),
    "existing": wrong("run: {existing: resum}", "run.existing (run.yaml:7:7)", "none of the choices", "resume; the"),
    "storage": wrong("run: {storage_path: ''}", "run.storage_path (run.yaml:7:7)", "it is empty", "text"),
    "precision": wrong("precision: bf32", "precision (run.yaml:9:1)", "none of the choices", "bf16"),
    "share": wrong("data: {train: a, eval: 1.5}", "data.eval (run.yaml:4:18)", "out of range", "above 0 and below 1"),
    "vocabulary": wrong(
        "model: {name: t5, tokenizer: {kind: bpe, vocab_size: 9}}",
        "model.tokenizer.vocab_size (run.yaml:3:42)",
        "it is out of range",
        "at least 10",
    ),
    "metrics": wrong("metrics: [blue]", "metrics[0] (run.yaml:9:11)", "none of the choices", "bleu; the choices"),
    "rate": training("learning_rate: -1", "training.learning_rate (run.yaml:5:12)", "out of range", "at least 0"),
    "not a number": training("learning_rate: .nan", "training.learning_rate (run.yaml:5:12)", "out of range", "number"),
    "batch": training(
        "per_device_train_batch_size: 0", "training.per_device_train_batch_size (run.yaml:5:12)", "range", "at least 1"
    ),
    "enum": training(
        "eval_strategy: step", "training.eval_strategy (run.yaml:5:12)", "none of the choices", "steps; the"
    ),
    "optimizer": training("optim: adamw", "training.optim (run.yaml:5:12)", "none of the choices", "adamw_torch"),
    "lora": wrong(
        "model: {name: t5, peft: {r: 0}}", "model.peft.r (run.yaml:3:26)", "it is out of range", "at least 1"
    ),
    "trainer": Row(
        "trainer (run.yaml:2:1)",
        "not of the right form",
        "my_module:build",
        "name: a\ntrainer: build\n",
        seen='"build"',
    ),
}
MISSING = {
    "name": Row("name (run.yaml:1:1)", "it has to be set", "name: letters", config(name=None), seen="nothing"),
    "task": Row("task (run.yaml)", "nothing says what is to be trained", "or trainer:", config(task=None)),
    "model": Row("model (run.yaml:1:1)", "it has to be set", "model: a mapping", config(model=None)),
    "train": wrong("data: {eval: b}", "data.train (run.yaml:4:1)", "it has to be set", "train: text or a list"),
    "kind": wrong(
        "model: {name: t5, tokenizer: {vocab_size: 99}}", "model.tokenizer.kind (run.yaml:3:19)", "to be set", "one of"
    ),
}
TOGETHER = {
    "two kinds": wrong("script: a.py", "script (run.yaml:9:1)", "task is given, too", "one of the two"),
    "no model": wrong("model: {tokenizer: bpe}", "model (run.yaml:3:1)", "nothing says which model", "from_config"),
    "two models": wrong(
        "model: {name: t5, from_config: {model_type: t5}, tokenizer: bpe}",
        "model.from_config (run.yaml:3:19)",
        "model.name is given, too",
        "one of the two",
    ),
    "no type": wrong(
        "model: {from_config: {d_model: 64}, tokenizer: bpe}",
        "model.from_config (run.yaml:3:9)",
        "a type",
        "model_type: t5",
    ),
    "no text as type": wrong(
        "model: {from_config: {model_type: 5}, tokenizer: bpe}",
        "model.from_config.model_type (run.yaml:3:23)",
        "of a type",
        "model_type: t5",
    ),
    "no tokenizer": wrong(
        "model: {from_config: {model_type: t5}}", "model.tokenizer (run.yaml:3:1)", "no tokenizer of its own", "words"
    ),
    "accelerator": wrong(
        "scaling: {use_gpu: true, use_tpu: true}", "scaling.use_tpu (run.yaml:6:26)", "use_gpu is true, too", "one of"
    ),
    "least above most": wrong(
        "scaling: {num_workers: [8, 2]}", "scaling.num_workers (run.yaml:6:11)", "before", "[2, 8]"
    ),
    "kept twice": training(
        "save_total_limit: 3", "training.save_total_limit (run.yaml:5:12)", "run.keep says", "keep: {last: 3}"
    ),
    "hub and file": wrong(
        "data: {hub: a/b, train: a/b.csv, eval: test}", "data.train (run.yaml:4:18)", "names a split", "train, for"
    ),
    "subset of nothing": wrong(
        "data: {train: a.csv, eval: b.csv, subset: en}", "data.subset (run.yaml:4:35)", "on the hub", "hub:"
    ),
    "same column": wrong(
        "data: {train: a.csv, eval: b.csv, source: text, target: text}",
        "data.target (run.yaml:4:49)",
        "data.source is the column 'text', too",
        "another column",
    ),
    "default column": wrong(
        "data: {train: a.csv, text_pair: text}",
        "data.text_pair (run.yaml:4:22)",
        "data.text is the",
        "another",
        CLASSES,
    ),
    "filter": wrong(
        "data: {train: a.csv, filter: {size: {mim: 3}}}",
        "data.filter.size (run.yaml:4:31)",
        "mim is not among min, max, not",
        "{min: , max: , not: }",
    ),
    "bounds": wrong(
        "data: {train: a.csv, filter: {size: {min: 3, max: 2}}}",
        "data.filter.size (run.yaml:4:31)",
        "above max",
        "min:",
    ),
    "several labels": wrong(
        "data: {train: a.csv, label: [a, b], problem_type: regression}",
        "data.problem_type (run.yaml:4:37)",
        "several labels",
        "multi_label_classification",
        CLASSES,
    ),
    "labels and columns": wrong(
        "data: {train: a.csv, label: [a, b, c], labels: [x, y]}",
        "data.labels (run.yaml:4:40)",
        "data.label names 3 columns",
        "3 names",
        CLASSES,
    ),
    "label twice": wrong(
        "data: {train: a.csv, labels: [a, a]}", "data.labels (run.yaml:4:22)", "a name is in it twice", "once", CLASSES
    ),
    "no evaluation data": Row(
        "training.eval_strategy (run.yaml:5:12)",
        "there is no data to evaluate on",
        "data.eval: files, or a share",
        config(CLASSES, data="data: {train: a.csv}", training="training: {eval_strategy: epoch}"),
    ),
    "precision twice": Row(
        "training.bf16 (run.yaml:5:12)",
        "precision: fp32 is given, too",
        "precision alone",
        config(CLASSES, training="training: {bf16: true}", precision="precision: fp32"),
    ),
    "two precisions": training(
        "bf16: true, fp16: true", "training.fp16 (run.yaml:5:24)", "training.bf16 is true, too", "precision: auto"
    ),
    "no steps": training("max_steps: 0", "training.max_steps (run.yaml:5:12)", "0 for no limit", "no max_steps"),
    "no epochs": training(
        "num_train_epochs: 0", "training.num_train_epochs (run.yaml:5:12)", "nothing would", "above 0"
    ),
    "half a step": training("logging_steps: 2.5", "training.logging_steps (run.yaml:5:12)", "not whole", "a share"),
    "best at no evaluation": training(
        "load_best_model_at_end: true",
        "training.load_best_model_at_end (run.yaml:5:12)",
        "save_strategy is steps, eval_strategy no",
        "eval_strategy: steps",
    ),
    "not a multiple": training(
        "load_best_model_at_end: true, eval_strategy: steps, eval_steps: 40, save_steps: 100",
        "training.save_steps (run.yaml:5:80)",
        "a multiple of eval_steps, which is 40",
        "80",
    ),
    "plateau": training(
        "lr_scheduler_type: reduce_lr_on_plateau",
        "training.lr_scheduler_type (run.yaml:5:12)",
        "it follows the evaluations",
        "eval_strategy: steps",
    ),
    "prefetch": training(
        "dataloader_prefetch_factor: 2",
        "training.dataloader_prefetch_factor (run.yaml:5:12)",
        "dataloader_num_workers is 0",
        "1 or more",
    ),
    "global batch": Row(
        "global_train_batch_size (run.yaml:9:1)",
        "no multiple of training.per_device_train_batch_size 8 times 2 workers",
        "32",
        config(CLASSES, batch="global_train_batch_size: 30"),
    ),
    "topology of nothing": wrong(
        "scaling: {topology: 4x4}", "scaling.topology (run.yaml:6:11)", "of TPUs", "use_tpu: true"
    ),
    "GPU and CPU": Row(
        "training.use_cpu (run.yaml:5:12)",
        "scaling.use_gpu is true",
        "one of the two",
        config(CLASSES, training="training: {use_cpu: true}", scaling="scaling: {use_gpu: true}"),
    ),
    "version of nothing": wrong(
        "model: {from_config: {model_type: t5}, tokenizer: bpe, revision: v1}",
        "model.revision (run.yaml:3:56)",
        "from_config makes a new one",
        "model.name",
    ),
    "type of no weights": wrong(
        "model: {from_config: {model_type: t5}, tokenizer: bpe, dtype: auto}",
        "model.dtype (run.yaml:3:56)",
        "from_config makes a new one",
        "float32",
    ),
    "hub and format": wrong(
        "data: {hub: a/b, train: train, eval: test, format: csv}",
        "data.format (run.yaml:4:44)",
        "it is of files",
        "one of",
    ),
    "evaluation at the start": Row(
        "training.eval_on_start (run.yaml:5:12)",
        "there is no data to evaluate on",
        "data.eval",
        config(CLASSES, data="data: {train: a.csv}", training="training: {eval_on_start: true}"),
    ),
    "names of a number": wrong(
        "data: {train: a.csv, labels: [a, b], problem_type: regression}",
        "data.labels (run.yaml:4:22)",
        "has no names",
        "without labels",
        CLASSES,
    ),
    "text as bound": wrong(
        "data: {train: a.csv, filter: {day: {min: 2026-01-01}}}",
        "data.filter.day (run.yaml:4:31)",
        "is a number",
        "min:",
    ),
    "empty filter": wrong(
        "data: {train: a, filter: {a: []}}", "data.filter.a (run.yaml:4:27)", "list is empty", "a value"
    ),
    "two full precisions": training(
        "bf16_full_eval: true, fp16_full_eval: true",
        "training.fp16_full_eval (run.yaml:5:34)",
        "is true, too",
        "one of",
    ),
    "log at no step": training("logging_steps: 0", "training.logging_steps (run.yaml:5:12)", "is steps", "above 0"),
    "best without evaluation": training(
        "save_strategy: best, metric_for_best_model: loss",
        "training.save_strategy (run.yaml:5:12)",
        "without an evaluation",
        "eval_strategy: steps",
    ),
    "saved by nothing": training(
        "save_strategy: best, eval_strategy: epoch",
        "training.save_strategy (run.yaml:5:12)",
        "nothing says by what",
        "metric_for_best_model: loss",
    ),
    "best of neither": training(
        "load_best_model_at_end: true, save_strategy: 'no'",
        "training.load_best_model_at_end (run.yaml:5:12)",
        "no evaluation to tell",
        "eval_strategy: steps",
    ),
    "share and steps": training(
        "load_best_model_at_end: true, eval_strategy: steps, eval_steps: 0.1, save_steps: 100",
        "training.save_steps (run.yaml:5:81)",
        "is a share of all steps",
        "both as shares",
    ),
    "persistent nobody": training(
        "dataloader_persistent_workers: true",
        "training.dataloader_persistent_workers (run.yaml:5:12)",
        "dataloader_num_workers is 0",
        "1 or more",
    ),
    "split twice": training(
        "fsdp: full_shard, deepspeed: ds.json", "training.deepspeed (run.yaml:5:30)", "training.fsdp is given", "one of"
    ),
    "accumulation twice": Row(
        "training.gradient_accumulation_steps (run.yaml:5:12)",
        "it follows from global_train_batch_size",
        "one of the two",
        config(CLASSES, training="training: {gradient_accumulation_steps: 2}", batch="global_train_batch_size: 32"),
    ),
    "metrics of nothing": Row(
        "metrics (run.yaml:9:1)",
        "nothing is generated",
        "predict_with_generate: true",
        config(training="training: {max_steps: 1}", metrics="metrics: [bleu]"),
    ),
    "tokens of pictures": Row(
        "model.tokenizer (run.yaml:3:20)",
        "pictures have no tokens",
        "without it",
        "name: a\ntask: image-classification\nmodel: {name: vit, tokenizer: bpe}\ndata: {train: pictures}\n",
    ),
}
YAML = {
    "tab": Row("run.yaml:2:1", "a tab cannot indent", "spaces", "name: a\n\ttask: seq2seq\n", seen="'task: seq2seq'"),
    "bracket": Row(
        "run.yaml:2:10", "the bracket is not closed", "closing bracket", "name: a\nscaling: {a: 1\nrun: {}\n"
    ),
    "quotation": Row("run.yaml:1:7", "in quotes cannot be read", "the closing quotation mark", "name: 'a\nrun: {}\n"),
    "colon": Row("run.yaml:2:10", "a second colon", "quotes around", "name: a\nmlflow: x: y\n"),
    "indentation": Row("run.yaml:2:5", "the indentation is wrong", "one key a line", "name: a\n run: {}\n"),
    "twice": Row(
        "run.yaml:3:1", "already, at run.yaml:1:1", "the key once", "name: a\nrun: {}\nname: b\n", seen="'name'"
    ),
    "alias": Row("run.yaml:1:7", "no anchor of this name", "&name before", "name: *a\n"),
    "python": Row(
        "run.yaml:1:7", "!!python/name:os.system is not for", "without the tag", "name: !!python/name:os.system\n"
    ),
    "documents": Row("run.yaml:2:1", "a second document", "one document a file", "name: a\n---\nname: b\n"),
    "root": Row("run.yaml", "it is no mapping", "lines of key: value", "- name\n- task\n", seen="['name', 'task']"),
    "empty": Row("run.yaml", "no settings are in it", "lines of key: value", "# nothing\n", seen="nothing"),
    "in itself": Row("run.yaml:1:7", "it contains itself", "an anchor", "data: &a [*a]\n"),
    "bomb": Row(
        "run.yaml:1:10",
        "more than 50000 values",
        "fewer",
        "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(8)),
    ),
    "deep": Row("run.yaml", "nested too deeply", "fewer levels", "a: " + "[" * 900 + "]" * 900),
    "variable in brackets": Row("run.yaml:2:10", "the braces of a variable", '"${NAME}"', "a: 1\nscaling: {a: ${B}}\n"),
    "not UTF-8": Row(
        "run.yaml:2:7", "it is not UTF-8", "saved as UTF-8", "name: a\ntask: \xe9t\xe9\n".encode("latin-1")
    ),
    "UTF-16": Row("run.yaml:1:1", "it is not UTF-8", "saved as UTF-8", "name: a\n".encode("utf-16")),
    "zero byte": Row("run.yaml:1:7", "no place for this character", "without it", "name: \0\n"),
}
FILES = {
    "missing": Row("CONFIG", "it cannot be read: No such file", "path of a YAML file", made="none", seen="'run.yaml'"),
    "folder": Row("CONFIG", "it is a folder", "path of a YAML file", made="folder"),
    "pipe": Row("CONFIG", "it is no regular file", "path of a YAML file", made="fifo"),
    "below a file": Row("CONFIG", "it cannot be read: Not a directory", "path of a YAML file", made="below a file"),
    "100 MB": Row("CONFIG", "it has 100,000,000 bytes", "path of a YAML file", made="100 MB"),
}
BASES = {
    "itself": Row("base (run.yaml:1:7)", "run.yaml -> run.yaml", "another file", "base: run.yaml\n"),
    "cycle": Row(
        "base (b.yaml:2:7)",
        "run.yaml -> a.yaml -> b.yaml -> run.yaml",
        "another file",
        "base: a.yaml\n",
        files={"a.yaml": "base: b.yaml\n", "b.yaml": "name: b\nbase: run.yaml\n"},
    ),
    "missing": Row("base (run.yaml:1:7)", "it cannot be read: No such file", "a path that counts", "base: no.yaml\n"),
    "number": Row("base (run.yaml:1:7)", "it is no path", "a list of such", "base: 5\n" + config()),
    "broken": Row(
        "a.yaml:1:7", "the bracket is not closed", "closing", "base: a.yaml\n", files={"a.yaml": "name: [a\n"}
    ),
    "spelling": Row(
        "scaling.num_worker (a.yaml:6:11)",
        "scaling has no setting num_worker",
        "num_workers",
        "base: [a.yaml]\nname: b\n",
        files={"a.yaml": config(scaling="scaling: {num_worker: 2}")},
    ),
}
COMMAND_LINE = {
    "spelling": Row(
        "scaling.num_worker (on the command line)",
        "scaling has no setting num_worker",
        "num_workers",
        config(),
        ("scaling.num_worker=2",),
        seen="2",
    ),
    "type": Row(
        "training.max_steps (on the command line)", "it is text", "number", config(), ("training.max_steps=x",)
    ),
    "no value": Row("setting on the command line", "no value", "name=null", config(), ("name=",), seen="'name='"),
    "no setting": Row("setting on the command line", "it is no setting", "key=value", config(), ("name",)),
    "no key": Row("setting on the command line", "it is no setting", "key=value", config(), ("run..keep=1",)),
    "YAML": Row("name=[1 on the command line", "the bracket is not closed", "closing", config(), ("name=[1",)),
    "below text": Row(
        "name.first=a (on the command line)",
        "name (run.yaml:1:7) is no mapping",
        "name=...",
        config(),
        ("name.first=a",),
    ),
    "base": Row("setting on the command line", "stands in its file", "base: a.yaml", config(), ("base=a.yaml",)),
}
VARIABLES = {
    "unset": wrong(
        "mlflow: {experiment: '${RAYTRAINER_UNSET}'}",
        "mlflow.experiment (run.yaml:8:22)",
        "the environment has no variable RAYTRAINER_UNSET",
        "${RAYTRAINER_UNSET:-default}",
    ),
    "unset in an override": Row(
        "name (on the command line)", "no variable RAYTRAINER_UNSET", "export", config(), ("name=${RAYTRAINER_UNSET}",)
    ),
    "no name": wrong("name: ${1+1}", "name (run.yaml:1:7)", "this is no name of a variable", "$$ for a dollar"),
    "quoted number": wrong(
        "scaling: {num_workers: '${RAYTRAINER_TWO}'}",
        "scaling.num_workers (run.yaml:6:11)",
        "it is text",
        "whole number",
    ),
    "secret": wrong(
        "scaling: {num_workers: '${RAYTRAINER_TOKEN}'}",
        "scaling.num_workers (run.yaml:6:11)",
        "it is text",
        "a whole number",
        seen="${RAYTRAINER_TOKEN}",
    ),
}
ENVIRONMENT = {"RAYTRAINER_TWO": "2", "RAYTRAINER_TOKEN": "hush"}
_GROUPS = {
    **{"spelling": SPELLING, "type": TYPES, "range": RANGES, "missing": MISSING, "together": TOGETHER, "yaml": YAML},
    **{"file": FILES, "base": BASES, "command line": COMMAND_LINE, "variable": VARIABLES},
}
ROWS = {f"{group}: {name}": row for group, rows in _GROUPS.items() for name, row in rows.items()}
