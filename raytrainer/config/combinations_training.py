"""Rules about training arguments that are right by themselves and wrong together."""

from __future__ import annotations

from collections.abc import Iterator

from raytrainer.config.view import Finding, Rule, View


def precision(view: View) -> Iterator[Finding]:
    """The precision is said once."""
    asked = [name for name in ("bf16", "fp16") if view("training", name)]
    if view.has("precision"):
        for name in asked:
            yield ("training", name), f"precision: {view('precision')} is given, too", "precision alone"
    elif len(asked) == 2:
        yield ("training", "fp16"), "training.bf16 is true, too", "precision: auto, or one of the two"
    if view("training", "bf16_full_eval") and view("training", "fp16_full_eval"):
        yield ("training", "fp16_full_eval"), "training.bf16_full_eval is true, too", "one of the two"


def length(view: View) -> Iterator[Finding]:
    """Something is trained."""
    steps = view.training("max_steps")
    if steps == 0:
        yield ("training", "max_steps"), "transformers takes 0 for no limit", "the number of steps, or no max_steps"
    elif steps is not None and steps < 0 and view.training("num_train_epochs") == 0:
        yield ("training", "num_train_epochs"), "nothing would be trained", "a number above 0, or max_steps"


def whole_steps(view: View) -> Iterator[Finding]:
    """Steps are a share of all or a whole number."""
    for name in ("logging", "eval", "save"):
        steps = view.training(f"{name}_steps")
        if view.training(f"{name}_strategy") == "steps" and steps is not None and steps > 1 and steps != int(steps):
            fix = f"{round(steps)}, or a share of all steps below 1"
            yield ("training", f"{name}_steps"), "above 1 it is a number of steps, and not whole", fix
    if view.training("logging_strategy") == "steps" and view.training("logging_steps") == 0:
        fix = "a number above 0, or logging_strategy: no"
        yield ("training", "logging_steps"), "training.logging_strategy is steps", fix


def best_at_end(view: View) -> Iterator[Finding]:
    """The best model can be loaded where it was both evaluated and saved."""
    saves, evaluates = view.training("save_strategy"), view.training("eval_strategy")
    if saves == "best" and evaluates == "no":
        reason = "without an evaluation no checkpoint is the best"
        yield ("training", "save_strategy"), reason, "training.eval_strategy: steps beside it"
    if saves == "best" and not view.has("training", "metric_for_best_model"):
        if not view("training", "load_best_model_at_end"):
            reason = "nothing says by what a checkpoint is the best"
            yield ("training", "save_strategy"), reason, "training.metric_for_best_model: loss beside it"
    elif view("training", "load_best_model_at_end") and saves != "best":
        at = ("training", "load_best_model_at_end")
        if saves != evaluates:
            reason = f"it needs saves where there are evaluations: save_strategy is {saves}, eval_strategy {evaluates}"
            yield at, reason, f"eval_strategy: {saves if saves != 'no' else 'steps'} and the same save_strategy"
        elif evaluates == "no":
            yield at, "there is no evaluation to tell which model is the best", "eval_strategy: steps beside it"
        elif evaluates == "steps":
            yield from _multiple(view)


def _multiple(view: View) -> Iterator[Finding]:
    saves = view.training("save_steps")
    evaluates = view.training("eval_steps") or view.training("logging_steps")
    if not saves or not evaluates:
        return
    if (saves < 1) != (evaluates < 1):
        reason = f"load_best_model_at_end: one of save_steps {saves} and eval_steps {evaluates} is a share of all steps"
        yield ("training", "save_steps"), reason, "both as shares or both as steps"
    elif round(saves * 1_000_000) % round(evaluates * 1_000_000):
        reason = f"load_best_model_at_end needs a multiple of eval_steps, which is {evaluates}"
        yield ("training", "save_steps"), reason, f"{max(1, round(saves / evaluates)) * evaluates}"


def schedule(view: View) -> Iterator[Finding]:
    """Some schedules follow the evaluations."""
    name = view.training("lr_scheduler_type")
    if name in ("reduce_lr_on_plateau", "greedy") and view.training("eval_strategy") == "no":
        fix = "training.eval_strategy: steps beside it, or another schedule"
        yield ("training", "lr_scheduler_type"), "it follows the evaluations, and there are none", fix


def loading(view: View) -> Iterator[Finding]:
    """Processes that load data have settings only where there are some."""
    if view.training("dataloader_num_workers") == 0:
        for name in ("dataloader_prefetch_factor", "dataloader_persistent_workers"):
            if view("training", name):
                fix = "dataloader_num_workers: 1 or more, beside it"
                yield ("training", name), "no process loads data: dataloader_num_workers is 0", fix


def sharding(view: View) -> Iterator[Finding]:
    """One of FSDP and DeepSpeed splits the model."""
    if view("training", "fsdp") and view("training", "deepspeed"):
        yield ("training", "deepspeed"), "training.fsdp is given, too", "one of the two"


def global_batch(view: View) -> Iterator[Finding]:
    """The global batch is whole batches of every worker."""
    examples, workers = view("global_train_batch_size"), view("scaling", "num_workers")
    per_device = view.training("per_device_train_batch_size")
    if examples is None or per_device is None:
        return
    if view("training", "gradient_accumulation_steps", default=1) != 1:
        reason = "it follows from global_train_batch_size"
        yield ("training", "gradient_accumulation_steps"), reason, "one of the two"
    together = per_device * (workers if isinstance(workers, int) else 1)
    if examples % together:
        many = f" times {workers} workers" if together != per_device else ""
        reason = f"it is no multiple of training.per_device_train_batch_size {per_device}{many}"
        yield ("global_train_batch_size",), reason, f"{max(1, round(examples / together)) * together}"


def generated(view: View) -> Iterator[Finding]:
    """What generated texts are measured by needs generated texts."""
    if view("metrics") and not view("training", "predict_with_generate"):
        fix = "training.predict_with_generate: true beside it"
        yield ("metrics",), "nothing is generated that they could measure", fix


TRAINING: list[Rule] = [
    *(precision, length, whole_steps, best_at_end, schedule, loading, sharding, global_batch),
]
SEQ2SEQ: list[Rule] = [generated]
