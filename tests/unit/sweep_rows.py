"""Sweeps that are wrong in one way each, and what the error says."""

from __future__ import annotations

from tests.unit.config_rows import CLASSES, GOOD, Row, config

SWEEP = {
    "base": "base: run.yaml",
    "space": "search_space:",
    "rate": "  training.learning_rate: {loguniform: [1e-4, 1e-2]}",
    "key": "  training.weight_decay: {choice: [0.0, 0.1]}",
    "tune": "tune: {metric: eval_loss, mode: min, num_samples: 4}",
}
EVALUATED = {**CLASSES, "training": "training: {max_steps: 100, eval_strategy: steps}"}
SCRIPT = {"name": "name: a", "script": "script: train.py"}
OWN = {"name": "name: a", "trainer": "trainer: my_module:build"}


def row(
    setting: str,
    reason: str,
    fix: str,
    *overrides: str,
    base: dict[str, str] = EVALUATED,
    seen: str | None = None,
    **lines: str | None,
) -> Row:
    """Return the row of a sweep that has other lines than the good one."""
    files: dict[str, str | bytes] = {"sweep.yaml": config(SWEEP, **lines)}
    return Row(setting, reason, fix, config(base), overrides, files, seen)


def key(line: str, setting: str, reason: str, fix: str, base: dict[str, str] = EVALUATED) -> Row:
    """Return the row of a sweep with another second key; the setting's place is in line 4."""
    return row(setting.replace("@", "sweep.yaml:4"), reason, fix, base=base, key=f"  {line}")


def tune(settings: str, setting: str, reason: str, fix: str, base: dict[str, str] = EVALUATED) -> Row:
    """Return the row of a sweep with another ``tune:``; the setting's place is in line 5."""
    return row(setting.replace("@", "sweep.yaml:5"), reason, fix, base=base, tune=f"tune: {{{settings}}}")


KEYS = {
    "training": key(
        "training.weight_deca: {choice: [0.1]}",
        "search_space.training.weight_deca (@:3)",
        "training has no setting weight_deca",
        "training.weight_decay",
    ),
    "like nothing": key(
        "training.zzz: {choice: [1]}", "search_space.training.zzz (@:3)", "no setting zzz", "TrainingArguments"
    ),
    "top": key(
        "trainig.weight_decay: {choice: [0.1]}", "search_space.trainig.weight_decay (@:3)", "no setting", "training"
    ),
    "without training": key(
        "weight_decay: {choice: [0.1]}", "search_space.weight_decay (@:3)", "no setting", "training.weight_decay"
    ),
    "data": key("data.max_lenth: {choice: [16]}", "search_space.data.max_lenth (@:3)", "no", "data.max_length"),
    "peft": key(
        "model.peft.rr: {choice: [8]}", "search_space.model.peft.rr (@:3)", "model.peft has no", "model.peft.r"
    ),
    "below a number": key(
        "training.seed.x: {choice: [1]}", "search_space.training.seed.x (@:3)", "has nothing below it", "training.seed"
    ),
    "another task's": key(
        "data.packing: {choice: [true]}", "search_space.data.packing (@:3)", "data has no setting packing", "one of"
    ),
    "seq2seq's": key(
        "training.generation_num_beams: {choice: [2, 4]}",
        "search_space.training.generation_num_beams (@:3)",
        "it belongs to task: seq2seq",
        "that task",
    ),
    "section": key("scaling: {choice: [{}]}", "search_space.scaling (@:3)", "is a section", "scaling.num_workers"),
    "dots": key("training..x: {choice: [1]}", "search_space.training..x (@:3)", "it is no key", "a dot between"),
    "flag": key("params.a.b: {choice: [1]}", "search_space.params.a.b (@:3)", "one name follows", "params.dropout"),
    "used by nothing": key(
        "params.dropout: {uniform: [0, 1]}",
        "search_space.params.dropout (@:3)",
        "nothing uses it",
        "a setting, or an expr",
    ),
    "script's model": key(
        "model.name: {choice: [a]}",
        "search_space.model.name (@:3)",
        "known to the script alone",
        "training.X or params.X",
        SCRIPT,
    ),
    "a whole and its part": row(
        "search_space.model.peft.r (sweep.yaml:4:3)",
        "model.peft is swept as a whole",
        "one of the two",
        rate="  model.peft: {choice: [null, {r: 4}]}",
        key="  model.peft.r: {choice: [8]}",
    ),
}
NOT_SWEPT = {
    "name": key("name: {choice: [a, b]}", "search_space.name (@:3)", "a folder of its own", "name: the sweep's"),
    "run": key("run.storage_path: {choice: [a]}", "search_space.run.storage_path (@:3)", "the sweep's", "run: in"),
    "kubernetes": key(
        "kubernetes.pods: {choice: [1, 2]}",
        "search_space.kubernetes.pods (@:3)",
        "pods are the sweep's, not a trial's",
        "kubernetes: in the base",
    ),
    "mlflow": key(
        "mlflow.experiment: {choice: [a]}", "search_space.mlflow.experiment (@:3)", "in one place", "mlflow:"
    ),
    "task": key("task: {choice: [seq2seq]}", "search_space.task (@:3)", "one kind of training", "another sweep"),
    "args": key("args: {choice: [[a]]}", "search_space.args (@:3)", "keys of their own", "--X", SCRIPT),
    "tune": key("tune.seed: {choice: [1]}", "search_space.tune.seed (@:3)", "how the sweep itself", "tune: beside"),
    "evaluation data": key(
        "data.eval: {choice: [0.1]}", "search_space.data.eval (@:3)", "on the same data", "data.eval"
    ),
    **{
        name: key(
            f"training.{name}: {{choice: [a]}}", f"search_space.training.{name} (@:3)", "folder of its own", "name:"
        )
        for name in ("output_dir", "run_name", "resume_from_checkpoint")
    },
    **{
        name: key(f"training.{name}: {{choice: [a]}}", f"search_space.training.{name} (@:3)", "changes nothing", "base")
        for name in ("report_to", "hub_model_id", "disable_tqdm")
    },
    "rank": key("training.local_rank: {choice: [0]}", "search_space.training.local_rank (@:3)", "from Ray", "nothing"),
}
_DECAY = "search_space.training.weight_decay"
RANGES = {
    "unknown kind": key(
        "training.weight_decay: {unifrom: [0, 1]}", f"{_DECAY}.unifrom (@:27)", "no setting unifrom", "uniform"
    ),
    "no kind": key("training.weight_decay: {}", f"{_DECAY} (@:3)", "nothing says which values", "loguniform:"),
    "two kinds": key(
        "training.weight_decay: {choice: [0.1], uniform: [0, 1]}",
        f"{_DECAY}.uniform (@:42)",
        "choice is given",
        "one of",
    ),
    "expression and kind": key(
        "training.weight_decay: {expr: '1', uniform: [0, 1]}", f"{_DECAY}.expr (@:27)", "uniform is given", "one of"
    ),
    "list": key("training.weight_decay: [0, 1]", f"{_DECAY} (@:3)", "it is a list", "a mapping"),
    "value": key("training.weight_decay: 0.1", f"{_DECAY} (@:3)", "it is a number", "a mapping"),
    "backwards": key(
        "training.weight_decay: {uniform: [1, 0]}", f"{_DECAY}.uniform[1] (@:40)", "is the higher one", "[0, 1]"
    ),
    "one value": key(
        "training.weight_decay: {randint: [1, 1]}", f"{_DECAY}.randint[1] (@:40)", "the bounds are both 1", "higher"
    ),
    "logarithm of 0": key(
        "training.weight_decay: {loguniform: [0, 1]}", f"{_DECAY}.loguniform[0] (@:40)", "no logarithm", "or uniform"
    ),
    "whole logarithm of 0": key(
        "training.max_steps: {lograndint: [0, 9]}",
        "search_space.training.max_steps.lograndint[0] (@:37)",
        "no logarithm",
        "or randint",
    ),
    "three bounds": key(
        "training.weight_decay: {uniform: [0, 1, 2]}", f"{_DECAY}.uniform (@:27)", "a list of 3", "a list of 2"
    ),
    "text as bound": key(
        "training.weight_decay: {uniform: [0, one]}", f"{_DECAY}.uniform[1] (@:40)", "it is text", "a number"
    ),
    "fraction as whole": key(
        "training.max_steps: {randint: [1, 9.5]}",
        "search_space.training.max_steps.randint[1] (@:37)",
        "it is a number",
        "a whole number",
    ),
    "no step": key(
        "training.weight_decay: {quniform: [0, 1, 0]}", f"{_DECAY}.quniform[2] (@:44)", "is above 0", "above 0"
    ),
    "step too large": key(
        "training.weight_decay: {quniform: [0.1, 0.4, 0.5]}",
        f"{_DECAY}.quniform[2] (@:48)",
        "no multiple of it is between 0.1 and 0.4",
        "at most 0.3",
    ),
    "no spread": key(
        "training.weight_decay: {normal: [0, 0]}", f"{_DECAY}.normal[1] (@:39)", "deviation is above 0", "above 0"
    ),
    "no choice": key("training.weight_decay: {choice: []}", f"{_DECAY}.choice (@:27)", "the list is empty", "a value"),
    "a choice twice": key(
        "training.weight_decay: {choice: [0.1, 0, 0.1]}", f"{_DECAY}.choice[2] (@:44)", "already", "once"
    ),
}
TRIALS = {
    "choice of another type": key(
        "training.weight_decay: {choice: [0.1, high]}", "training.weight_decay (@:41)", "it is text", "a number"
    ),
    "choice out of range": key(
        "training.weight_decay: {choice: [0.1, -1]}", "training.weight_decay (@:41)", "out of range", "at least 0"
    ),
    "choice of no name": key(
        "training.optim: {grid: [sgd, adamw]}", "training.optim (@:32)", "none of the choices", "adamw_torch"
    ),
    "low bound": key(
        "training.weight_decay: {uniform: [-1, 1]}", "training.weight_decay (@:37)", "out of range", "at least 0"
    ),
    "high bound": key(
        "training.label_smoothing_factor: {uniform: [0, 2]}",
        "training.label_smoothing_factor (@:50)",
        "out of range",
        "at most 1",
    ),
    "fractions of a whole": key(
        "training.max_steps: {uniform: [10, 100]}",
        "search_space.training.max_steps.uniform (@:24)",
        "the setting is a whole number, and uniform gives fractions",
        "randint: [10, 100]",
    ),
    "normal and bounded": key(
        "training.weight_decay: {normal: [0.1, 0.1]}", "training.weight_decay (@:36)", "out of range", "at least 0"
    ),
    "combination": row(
        "training.save_steps (sweep.yaml:4:34)",
        "a multiple of eval_steps, which is 40, where training.eval_steps is 40",
        "40",
        base={
            **CLASSES,
            "training": "training: {load_best_model_at_end: true, eval_strategy: steps, save_steps: 100}",
        },
        rate="  training.eval_steps: {choice: [50, 40, 25]}",
        key="  training.save_steps: {choice: [50, 100, 200]}",
    ),
    "combination with the base": row(
        "global_train_batch_size (run.yaml:9:1)",
        "training.per_device_train_batch_size 8 times 3 workers, where scaling.num_workers is 3",
        "72",
        base={**EVALUATED, "batch": "global_train_batch_size: 64"},
        rate="  scaling.num_workers: {choice: [1, 3]}",
        key="  training.learning_rate: {choice: [0.1]}",
    ),
    "combination in the middle": row(
        "global_train_batch_size (run.yaml:9:1)",
        "where scaling.num_workers is 3 and training.per_device_train_batch_size is 12",
        "108",
        base={**EVALUATED, "batch": "global_train_batch_size: 96"},
        rate="  scaling.num_workers: {choice: [1, 3, 2]}",
        key="  training.per_device_train_batch_size: {choice: [8, 12, 16]}",
    ),
    "below a number": key(
        "data.max_samples.train: {choice: [5]}",
        "data.max_samples.train (@:37)",
        "data.max_samples (run.yaml:4:64) is no mapping",
        "as a whole",
        {**EVALUATED, "data": "data: {train: train.csv, eval: 0.1, label: label, max_samples: 10}"},
    ),
    "the base": row(
        "training.max_steps (run.yaml:5:12)",
        "it is text",
        "a whole number",
        base={**CLASSES, "training": "training: {max_steps: many}"},
    ),
    "the base's task": row("task (run.yaml:2:1)", "no such task", "seq2seq", base={**GOOD, "task": "task: seq2sec"}),
    "computed": key(
        "training.seed: {expr: scaling.num_workers - 5}", "training.seed (@:19)", "it is out of range", "at least 0"
    ),
}
WHEN = {
    "unknown": key(
        "training.weight_decay: {choice: [0.1], when: {training.learning_rat: 1}}",
        f"{_DECAY}.when.training.learning_rat (@:49)",
        "there is no training.learning_rat in the search space",
        "training.learning_rate",
    ),
    "any number": key(
        "training.weight_decay: {choice: [0.1], when: {training.learning_rate: 1e-3}}",
        f"{_DECAY}.when.training.learning_rate (@:49)",
        "is any number",
        "a choice or steps",
    ),
    "never": row(
        f"{_DECAY}.when.training.optim (sweep.yaml:4:49)",
        'training.optim never is "sgd"',
        '"adamw_torch", "adafactor"',
        rate="  training.optim: {choice: [adamw_torch, adafactor]}",
        key="  training.weight_decay: {choice: [0.1], when: {training.optim: sgd}}",
    ),
    "never of steps": row(
        f"{_DECAY}.when.training.warmup_steps (sweep.yaml:4:49)",
        "training.warmup_steps never is 15",
        "a number of 0 to 100 in steps of 10",
        rate="  training.warmup_steps: {qrandint: [0, 100, 10]}",
        key="  training.weight_decay: {choice: [0.1], when: {training.warmup_steps: [10, 15]}}",
    ),
    "no value": row(
        f"{_DECAY}.when.training.seed (sweep.yaml:4:49)",
        "the list is empty",
        "a value of training.seed",
        rate="  training.seed: {randint: [0, 9]}",
        key="  training.weight_decay: {choice: [0.1], when: {training.seed: []}}",
    ),
    "nothing": key(
        "training.weight_decay: {choice: [0.1], when: {}}", f"{_DECAY}.when (@:42)", "it is empty", "a mapping"
    ),
    "computed": row(
        f"{_DECAY}.when.training.seed (sweep.yaml:4:49)",
        "training.seed is computed",
        "sampled",
        rate="  training.seed: {expr: 1 + 1}",
        key="  training.weight_decay: {choice: [0.1], when: {training.seed: 2}}",
    ),
    "cycle": row(
        "search_space.training.seed (sweep.yaml:3:3)",
        "training.seed -> data.max_length -> training.seed",
        "without its when",
        rate="  training.seed: {choice: [1, 2], when: {data.max_length: 8}}",
        key="  data.max_length: {choice: [8], when: {training.seed: 1}}",
    ),
    "itself": key(
        "training.seed: {choice: [1, 2], when: {training.seed: 1}}",
        "search_space.training.seed (@:3)",
        "training.seed -> training.seed",
        "without its when",
    ),
}
EXPRESSIONS = {
    "syntax": key(
        "training.seed: {expr: 1 +}", "search_space.training.seed.expr (@:19)", "no expression", "arithmetic"
    ),
    "call": key(
        "training.seed: {expr: open('x')}", "search_space.training.seed.expr (@:19)", "none of its functions", "keys"
    ),
    "attribute": key(
        "training.seed: {expr: (1).real}", "search_space.training.seed.expr (@:19)", ".real is no key", "keys"
    ),
    "comprehension": key(
        "training.seed: {expr: 'min([1, 2])'}",
        "search_space.training.seed.expr (@:19)",
        "no place in arithmetic",
        "keys",
    ),
    "unknown": key(
        "training.seed: {expr: scaling.num_worker * 2}",
        "search_space.training.seed.expr (@:19)",
        "there is no scaling.num_worker,",
        "scaling.num_workers",
    ),
    "not said": key(
        "training.seed: {expr: data.max_length * 2}",
        "search_space.training.seed.expr (@:19)",
        "the base does not say what data.max_length is",
        "in the base",
    ),
    "division by 0": key(
        "training.seed: {expr: 1 // (scaling.num_workers - 2)}",
        "search_space.training.seed.expr (@:19)",
        "it divides by 0",
        "whatever is sampled",
    ),
    "text": key(
        "training.seed: {expr: task - 1}",
        "search_space.training.seed.expr (@:19)",
        "no value where task is",
        "whatever",
    ),
    "cycle": row(
        "search_space.training.seed (sweep.yaml:3:3)",
        "training.seed -> data.max_length -> training.seed",
        "expr",
        rate="  training.seed: {expr: data.max_length + 1}",
        key="  data.max_length: {expr: training.seed + 1}",
    ),
    "not always there": row(
        "search_space.training.max_steps.expr (sweep.yaml:5:24)",
        "data.max_length is not always there",
        "the same when",
        rate="  training.seed: {choice: [1, 2]}",
        key="  data.max_length: {choice: [8], when: {training.seed: 1}}\n"
        "  training.max_steps: {expr: data.max_length * 2}",
    ),
    "nothing sampled": row(
        "search_space (sweep.yaml:2:1)",
        "nothing in it is sampled",
        "learning_rate",
        rate=None,
        key="  training.seed: {expr: 1 + 1}",
    ),
}
_METRIC = "metric: eval_loss, mode: min"
TUNE = {
    "no metric": tune("mode: min, num_samples: 4", "tune.metric (@:1)", "it has to be set", "metric: text"),
    "no mode": tune(
        "metric: eval_loss, num_samples: 4", "tune.mode (@:1)", "it has to be set", "mode: one of min, max"
    ),
    "mode": tune("metric: eval_loss, mode: mim, num_samples: 4", "tune.mode (@:27)", "none of the choices", "min"),
    "unknown": tune(f"{_METRIC}, num_sample: 4", "tune.num_sample (@:38)", "tune has no setting", "num_samples"),
    "modes": tune(
        "metric: [eval_loss, eval_runtime], mode: [min], num_samples: 4",
        "tune.mode (@:43)",
        "there are 2 metrics and 1 modes",
        "for each metric",
    ),
    "metric twice": tune(
        "metric: [eval_loss, eval_loss], mode: [min, min], num_samples: 4",
        "tune.metric (@:8)",
        "twice",
        "each metric once",
    ),
    "no samples": tune(_METRIC, "tune.num_samples (@:1)", "nothing says how many trials", "num_samples: 20"),
    "number of samples": tune(f"{_METRIC}, num_samples: 0", "tune.num_samples (@:38)", "out of range", "at least 1"),
    "without end": tune(
        f"{_METRIC}, num_samples: -1", "tune.num_samples (@:38)", "end the sweep", "budget: {time: 30m}"
    ),
    "search": tune(f"{_METRIC}, num_samples: 4, search: optnua", "tune.search (@:54)", "no search optnua", "optuna;"),
    "search with options": tune(
        f"{_METRIC}, num_samples: 4, search: {{optnua: {{}}}}", "tune.search.optnua (@:63)", "no search", "optuna;"
    ),
    "two searches": tune(
        f"{_METRIC}, num_samples: 4, search: {{ax: {{}}, bohb: {{}}}}",
        "tune.search (@:54)",
        "names 2, ax and bohb",
        "one",
    ),
    "no search": tune(f"{_METRIC}, num_samples: 4, search: {{}}", "tune.search (@:54)", "it is empty", "one name"),
    "options": tune(
        f"{_METRIC}, num_samples: 4, search: {{ax: 5}}", "tune.search.ax (@:63)", "it is a whole number", "a mapping"
    ),
    "scheduler": tune(f"{_METRIC}, num_samples: 4, scheduler: ahsa", "tune.scheduler (@:54)", "no scheduler", "asha;"),
    "repeats": tune(
        f"{_METRIC}, num_samples: 4, repeats: 3, scheduler: asha", "tune.repeats (@:54)", "asha stops trials", "fifo"
    ),
    "repeats and seeds": row(
        "tune.repeats (on the command line)",
        "search_space.training.seed is given, too",
        "one of the two",
        "tune.repeats=2",
        key="  training.seed: {choice: [1, 2]}",
    ),
    "objectives and scheduler": tune(
        "metric: [eval_loss, eval_runtime], mode: [min, min], num_samples: 4, scheduler: asha",
        "tune.scheduler (@:77)",
        "has 2 objectives, and asha",
        "fifo",
    ),
    "objectives and search": tune(
        "metric: [eval_loss, eval_runtime], mode: [min, min], num_samples: 4, search: hyperopt",
        "tune.search (@:77)",
        "has 2 objectives, and hyperopt",
        "optuna",
    ),
    "concurrency": tune(
        f"{_METRIC}, num_samples: 4, max_concurrent_trials: 0",
        "tune.max_concurrent_trials (@:54)",
        "range",
        "at least 1",
    ),
    "scope": tune(f"{_METRIC}, num_samples: 4, scope: first", "tune.scope (@:54)", "none of the choices", "last, best"),
    "time": tune(
        f"{_METRIC}, num_samples: 4, budget: {{time: 30 min}}",
        "tune.budget.time (@:63)",
        "not of the right form",
        "1h30m",
    ),
    "time in seconds": tune(
        f"{_METRIC}, num_samples: 4, budget: {{time: 90}}", "tune.budget.time (@:63)", "it is a whole number", "90s"
    ),
    "no time": tune(f"{_METRIC}, num_samples: 4, budget: {{time: 0s}}", "tune.budget.time (@:63)", "no trial", "30m"),
    "hours": tune(
        f"{_METRIC}, num_samples: 4, budget: {{gpu_hours: 0}}",
        "tune.budget.gpu_hours (@:63)",
        "out of range",
        "above 0",
    ),
    "point": tune(
        f"{_METRIC}, num_samples: 4, points: [{{training.learning_rat: 1e-3}}]",
        "tune.points[0].training.learning_rat (@:64)",
        "not in the search space",
        "training.learning_rate",
    ),
    "point out of range": tune(
        f"{_METRIC}, num_samples: 4, points: [{{}}, {{training.learning_rate: 1}}]",
        "tune.points[1].training.learning_rate (@:68)",
        "has no such value",
        "a number of 0.0001 to 0.01",
    ),
    "grid": row(
        f"{_DECAY}.grid (sweep.yaml:4:27)",
        "search: optuna chooses its points itself",
        "choice, or",
        "tune.search=optuna",
        key="  training.weight_decay: {grid: [0.0, 0.1]}",
    ),
    "none": row("tune (sweep.yaml:1:1)", "it has to be set", "tune: a mapping", tune=None),
    "no space": row(
        "search_space (sweep.yaml:1:1)", "it has to be set", "search_space: a mapping", space=None, rate=None, key=None
    ),
    "empty space": row("search_space (sweep.yaml:2:1)", "it is null", "a mapping", rate=None, key=None),
    "no evaluation data": row(
        "data.eval (run.yaml:4:1)",
        "compared by eval_loss, and there is no data",
        "a share of the training data",
        base={**CLASSES, "data": "data: {train: a.csv, label: label}"},
    ),
    "no evaluation": row(
        "training.eval_strategy (run.yaml:5:12)",
        "asha stops trials by their evaluations",
        "steps or epoch",
        "tune.scheduler=asha",
        base={**CLASSES, "training": "training: {eval_strategy: 'no'}"},
    ),
    "nothing generated": tune(
        "metric: eval_bleu, mode: max, num_samples: 4",
        "tune.metric (@:8)",
        "nothing is generated",
        "predict_with_generate: true",
        {**GOOD, "training": "training: {max_steps: 1}"},
    ),
    "not measured": tune(
        "metric: [eval_loss, eval_rougeL], mode: [min, max], num_samples: 4",
        "tune.metric[1] (@:28)",
        "does not have rouge",
        "metrics: [rouge]",
        GOOD,
    ),
    "system metrics": row(
        "mlflow.system_metrics (on the command line)",
        "several trials at a time",
        "false in the sweep",
        "mlflow.system_metrics=true",
    ),
    "adapter in the registry": row(
        "mlflow.register (on the command line)",
        "there is an adapter",
        "tune.refit: true",
        "mlflow.register=words",
        "model.peft={r: 8}",
    ),
    "adapter in MLflow": row(
        "mlflow.log_model (on the command line)",
        "there is an adapter",
        "tune.refit: true",
        "mlflow.log_model=true",
        "model.peft={r: 8}",
    ),
}
COMMAND_LINE = {
    "tune": row("tune.seed (on the command line)", "it is text", "a whole number", "tune.seed=x"),
    "key": row(
        "search_space.training.lerning_rate (on the command line)",
        "no setting",
        "training.learning_rate",
        "search_space.training.lerning_rate={uniform: [0, 1]}",
    ),
    "kind": row(
        "search_space.training.learning_rate.loguniform[0] (on the command line)",
        "no logarithm",
        "uniform",
        "search_space.training.learning_rate.loguniform=[0, 1]",
    ),
    "variable": row(
        f"{_DECAY}.choice[0] (sweep.yaml:4:36)",
        "no variable RAYTRAINER_UNSET",
        "export",
        key="  training.weight_decay: {choice: ['${RAYTRAINER_UNSET}']}",
    ),
}
_GROUPS = {
    **{"key": KEYS, "not swept": NOT_SWEPT, "range": RANGES, "trial": TRIALS, "when": WHEN, "expression": EXPRESSIONS},
    **{"tune": TUNE, "command line": COMMAND_LINE},
}
ROWS = {f"{group}: {name}": one for group, rows in _GROUPS.items() for name, one in rows.items()}
