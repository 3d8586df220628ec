"""Whatever the user gets wrong is told at once, with the setting, the value, the reason and the fix; Ray stays off."""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from datasets import Dataset, DatasetDict
from ray.train import RunConfig
from ray.train.v2.api.config import ScalingConfig
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    ParakeetCTCConfig,
    ParakeetForCTC,
    Trainer,
    TrainingArguments,
)
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from raytrainer import (
    RaySeq2SeqTrainer,
    RaySeq2SeqTrainingArguments,
    RayTrainer,
    RayTrainingArguments,
    distribute,
)
from raytrainer.errors import ArgumentsError, PrecisionError, ShippingError, UserError
from tests.ray.recipes import tiny_bert

ROWS = Dataset.from_dict({"input_ids": [[1, 2], [3, 4]], "label": [0, 1]})


class NoLength(torch.utils.data.IterableDataset[dict[str, Any]]):
    def __iter__(self) -> Any:
        return iter(ROWS)


def plain_metrics(prediction: Any) -> dict[str, float]:
    return {}


def model_of_two(trial: Any, size: int) -> Any:
    return None


def arguments(**changes: Any) -> RayTrainingArguments:
    return RayTrainingArguments(output_dir="out", report_to="none", **changes)


def trainer(**changes: Any) -> Any:
    parts = {"model": tiny_bert(), "args": arguments(), "train_dataset": ROWS}
    return RayTrainer(**{**parts, **changes})


class Distilling(Trainer):
    """Has a teacher, and hands all else on by place or by name."""

    def __init__(self, teacher: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher = teacher


class Keywords(Trainer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


def elastic(**changes: Any) -> Any:
    return trainer(args=arguments(**changes), scaling_config=ScalingConfig(num_workers=(1, 4)))


ADAM = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])

# What is called, the setting that the error names, the value that it shows, a word of its reason, a word of its fix.
TABLE: dict[str, tuple[Callable[[], Any], str, str, str, str]] = {
    "scaling is a dict": (
        lambda: trainer(scaling_config={"num_workers": 2}),
        "scaling_config",
        "{'num_workers': 2}",
        "not a ray.train.ScalingConfig",
        "ScalingConfig(num_workers=2)",
    ),
    "scaling is a number": (
        lambda: trainer(scaling_config=4),
        "scaling_config",
        "4",
        "not a ray.train.ScalingConfig",
        "ScalingConfig(num_workers=4)",
    ),
    "no worker": (
        lambda: trainer(scaling_config=ScalingConfig(num_workers=0)),
        "scaling_config.num_workers",
        "0",
        "nobody",
        "num_workers=1",
    ),
    "elastic, none divides": (
        lambda: trainer(
            args=arguments(per_device_train_batch_size=2),
            scaling_config=ScalingConfig(num_workers=(5, 7)),
            global_train_batch_size=16,
        ),
        "scaling_config.num_workers",
        "(5, 7)",
        "shared by 1, 2, 4, 8 workers",
        "ScalingConfig(num_workers=(4, 7))",
    ),
    "fixed, does not divide": (
        lambda: trainer(
            args=arguments(per_device_train_batch_size=2),
            scaling_config=ScalingConfig(num_workers=3),
            global_train_batch_size=16,
        ),
        "scaling_config.num_workers",
        "3",
        "shared by 1, 2, 4, 8 workers",
        "ScalingConfig(num_workers=2)",
    ),
    "elastic down to nobody": (
        lambda: trainer(scaling_config=ScalingConfig(num_workers=(0, 4))),
        "scaling_config.num_workers",
        "(0, 4)",
        "nobody",
        "num_workers=(1, 4)",
    ),
    "elastic with TPUs": (
        lambda: trainer(scaling_config=ScalingConfig(num_workers=(1, 1), use_tpu=True)),
        "scaling_config.num_workers",
        "(1, 1)",
        "slices",
        "num_workers=1",
    ),
    "a global batch of no number": (
        lambda: trainer(scaling_config=ScalingConfig(num_workers=2), global_train_batch_size="16"),
        "global_train_batch_size",
        "'16'",
        "no number",
        "global_train_batch_size=64",
    ),
    "a global batch of part of a batch": (
        lambda: trainer(scaling_config=ScalingConfig(num_workers=2), global_train_batch_size=12),
        "global_train_batch_size",
        "12",
        "per_device_train_batch_size=8",
        "global_train_batch_size=8",
    ),
    "a global batch and another accumulation": (
        lambda: trainer(
            args=arguments(gradient_accumulation_steps=3),
            scaling_config=ScalingConfig(num_workers=2),
            global_train_batch_size=32,
        ),
        "args.gradient_accumulation_steps",
        "3",
        "leaves 2 to each of 2",
        "leave it out",
    ),
    "a global batch and one that shrinks": (
        lambda: trainer(
            args=arguments(auto_find_batch_size=True),
            scaling_config=ScalingConfig(num_workers=2),
            global_train_batch_size=32,
        ),
        "args.auto_find_batch_size",
        "True",
        "smaller in the middle",
        "per_device_train_batch_size",
    ),
    "elastic, batch size searched for": (
        lambda: elastic(auto_find_batch_size=True),
        "args.auto_find_batch_size",
        "True",
        "smaller in the middle",
        "per_device_train_batch_size",
    ),
    "elastic, grouped by length": (
        lambda: elastic(train_sampling_strategy="group_by_length"),
        "args.train_sampling_strategy",
        "'group_by_length'",
        "depends on the accumulation",
        "'batch_rebalance'",
    ),
    "elastic, last batches dropped": (
        lambda: elastic(dataloader_drop_last=True),
        "args.dataloader_drop_last",
        "True",
        "how many steps an epoch has",
        "whole steps",
    ),
    "elastic, data not skipped": (
        lambda: elastic(ignore_data_skip=True),
        "args.ignore_data_skip",
        "True",
        "begin anew",
        "leave it out",
    ),
    "elastic, DeepSpeed": (
        lambda: elastic(deepspeed={"zero_optimization": {"stage": 2}}),
        "args.deepspeed",
        "zero_optimization",
        "as many workers as wrote it",
        "num_workers=4",
    ),
    "elastic, batches split": (
        lambda: elastic(accelerator_config={"split_batches": True}),
        "args.accelerator_config",
        "split_batches",
        "part of a batch",
        "leave split_batches out",
    ),
    "elastic, batches dispatched": (
        lambda: elastic(accelerator_config={"dispatch_batches": True}),
        "args.accelerator_config",
        "dispatch_batches",
        "skipped on resuming",
        "leave dispatch_batches out",
    ),
    "elastic, order not drawn again": (
        lambda: elastic(accelerator_config={"use_seedable_sampler": False}),
        "args.accelerator_config",
        "use_seedable_sampler",
        "drawn again",
        "leave it out",
    ),
    "elastic, accumulation elsewhere": (
        lambda: elastic(accelerator_config={"gradient_accumulation_kwargs": {"num_steps": 2}}),
        "args.accelerator_config",
        "num_steps",
        "follows from the global batch",
        "leave it out",
    ),
    "run is a text": (
        lambda: trainer(run_config="runs"),
        "run_config",
        "'runs'",
        "not a ray.train.RunConfig",
        "RunConfig(name=...",
    ),
    "run is a class": (
        lambda: trainer(run_config=RunConfig),
        "run_config",
        "RunConfig",
        "not a ray.train.RunConfig",
        "RunConfig(name=...",
    ),
    "precision misspelt": (lambda: trainer(precision="bf61"), "precision", "'bf61'", "", "'bf16'"),
    "fp32 and bf16": (
        lambda: trainer(precision="fp32", args=arguments(bf16=True)),
        "precision",
        "'fp32'",
        "bf16",
        "precision",
    ),
    "fp16 and bf16": (
        lambda: trainer(precision="fp16", args=arguments(bf16=True)),
        "precision",
        "'fp16'",
        "bf16",
        "precision",
    ),
    "loss scale misspelt": (
        lambda: trainer(loss_scale="transformer"),
        "loss_scale",
        "'transformer'",
        "no such",
        "'transformers'",
    ),
    "CPU and GPU": (
        lambda: trainer(args=arguments(use_cpu=True), scaling_config=ScalingConfig(num_workers=1, use_gpu=True)),
        "args.use_cpu",
        "True",
        "accelerator",
        "use_gpu=False",
    ),
    "unknown keyword": (
        lambda: trainer(train_datset=ROWS),
        "train_datset",
        "Dataset",
        "no such argument",
        "'train_dataset'",
    ),
    "tokenizer, gone from transformers 5": (
        lambda: trainer(tokenizer=None),
        "tokenizer",
        "None",
        "no such argument",
        "choose one of",
    ),
    "unknown keyword of a subclass": (
        lambda: type("Mine", (RayTrainer,), {})(model=tiny_bert(), argz=arguments()),
        "argz",
        "RayTrainingArguments",
        "Mine takes no such argument",
        "'args'",
    ),
    "too many positional": (
        lambda: RayTrainer(*range(20)),
        "RayTrainer(...)",
        "20 positional",
        "at most",
        "by name",
    ),
    "too many positional for all constructors": (
        lambda: distribute(Distilling)("teacher", *range(20)),
        "Distilling(...)",
        "21 positional",
        "teacher, model, args",
        "by name",
    ),
    "positional for keywords alone": (
        lambda: distribute(Keywords)(tiny_bert()),  # type: ignore[call-arg]  # the mistake
        "Keywords(...)",
        "1 positional",
        "takes none",
        "by name",
    ),
    "no model": (lambda: trainer(model=None), "model", "None", "nothing to train", "from_pretrained"),
    "model and model_init": (
        lambda: trainer(model_init=tiny_bert),
        "model_init",
        "tiny_bert",
        "a model was passed as well",
        "pass model, or model_init",
    ),
    "model_init cannot be called": (
        lambda: trainer(model=None, model_init="bert"),
        "model_init",
        "'bert'",
        "cannot be called",
        "function",
    ),
    "model_init of two": (
        lambda: trainer(model=None, model_init=model_of_two),
        "model_init",
        "model_of_two",
        "more than one argument",
        "none, or of the trial",
    ),
    "a model without a head": (
        lambda: trainer(model=BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))),
        "model",
        "'BertModel'",
        "no loss",
        "AutoModelForSequenceClassification",
    ),
    "arguments are a dict": (
        lambda: trainer(args={"output_dir": "out"}),
        "args",
        "{'output_dir': 'out'}",
        "this is dict",
        "RayTrainingArguments(**...)",
    ),
    "seq2seq with plain arguments": (
        lambda: RaySeq2SeqTrainer(tiny_bert(), arguments(), train_dataset=ROWS),
        "args",
        "RayTrainingArguments",
        "Seq2SeqTrainingArguments",
        "RaySeq2SeqTrainingArguments",
    ),
    "evaluation of nothing": (
        lambda: trainer(args=arguments(eval_strategy="epoch")),
        "args.eval_strategy",
        "'epoch'",
        "no eval_dataset",
        "eval_strategy='no'",
    ),
    "best by no metric": (
        lambda: trainer(args=arguments(save_strategy="best", eval_strategy="epoch"), eval_dataset=ROWS),
        "args.metric_for_best_model",
        "None",
        "save_strategy='best'",
        "eval_loss",
    ),
    "a label called label": (
        lambda: trainer(args=arguments(label_names=["label"])),
        "args.label_names",
        "['label']",
        "renames",
        "labels",
    ),
    "a dict of datasets": (
        lambda: trainer(train_dataset=DatasetDict(train=ROWS, validation=ROWS)),
        "train_dataset",
        "'DatasetDict'",
        "'train', 'validation'",
        "datasets['train']",
    ),
    "a dataset's name": (
        lambda: trainer(train_dataset="imdb"),
        "train_dataset",
        "'str'",
        "no dataset",
        "datasets['train']",
    ),
    "an evaluation dataset's name": (
        lambda: trainer(eval_dataset="imdb"),
        "eval_dataset",
        "'imdb'",
        "no dataset",
        "datasets['validation']",
    ),
    "no length and no steps": (
        lambda: trainer(train_dataset=NoLength()),
        "args.max_steps",
        "-1",
        "no length",
        "max_steps=1000",
    ),
    "an empty dataset": (
        lambda: trainer(train_dataset=ROWS.select([])),
        "train_dataset",
        "'0 examples'",
        "nothing",
        "with examples",
    ),
    "a collator that is a text": (
        lambda: trainer(data_collator="padding"),
        "data_collator",
        "'padding'",
        "cannot be called",
        "function",
    ),
    "metrics that are a text": (
        lambda: trainer(compute_metrics="accuracy"),
        "compute_metrics",
        "'accuracy'",
        "cannot be called",
        "function",
    ),
    "batch metrics without the last": (
        lambda: trainer(args=arguments(batch_eval_metrics=True), compute_metrics=plain_metrics),
        "compute_metrics",
        "plain_metrics",
        "compute_result",
        "def compute_metrics(prediction, compute_result)",
    ),
    "a callback alone": (
        lambda: trainer(callbacks=plain_metrics),
        "callbacks",
        "plain_metrics",
        "not a list",
        "[...]",
    ),
    "a callback that is a function": (
        lambda: trainer(callbacks=[plain_metrics]),
        "callbacks",
        "plain_metrics",
        "TrainerCallback",
        "subclass",
    ),
    "optimizers of a model to come": (
        lambda: trainer(model=None, model_init=tiny_bert, optimizers=(ADAM, None)),
        "optimizers",
        "Adam",
        "model_init",
        "optimizer_cls_and_kwargs",
    ),
    "two optimizers": (
        lambda: trainer(optimizers=(ADAM, None), optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.1})),
        "optimizer_cls_and_kwargs",
        "SGD",
        "optimizers was passed",
        "one of the two",
    ),
    "train on nothing": (
        lambda: trainer(train_dataset=None).train(),
        "train_dataset",
        "None",
        "nothing to train on",
        "in the constructor",
    ),
    "evaluate on nothing": (
        lambda: trainer().evaluate(),
        "eval_dataset",
        "None",
        "nothing to evaluate",
        "trainer.evaluate(dataset)",
    ),
    "resume from nowhere": (
        lambda: trainer().train(resume_from_checkpoint="nowhere/checkpoint-5"),
        "resume_from_checkpoint",
        "'nowhere/checkpoint-5'",
        "no such folder",
        "checkpoint-*",
    ),
    "resume from the last of none": (
        lambda: trainer(args=RayTrainingArguments(output_dir="nowhere")).train(resume_from_checkpoint=True),
        "resume_from_checkpoint",
        "True",
        "no checkpoint-* folder in",
        "None to start anew",
    ),
    "search without model_init": (
        lambda: trainer().hyperparameter_search(n_trials=2),
        "model_init",
        "None",
        "each trial of a search begins with a new model",
        "in the place of model=",
    ),
    "train as a trial": (
        lambda: trainer().train(trial={"learning_rate": 1.0}),
        "trial",
        "{'learning_rate': 1.0}",
        "what the training arguments say",
        "hyperparameter_search",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_error_names_setting_value_reason_and_fix(case: str) -> None:
    call, setting, value, reason, fix = TABLE[case]
    before = ray_actors()
    with pytest.raises(UserError) as caught:
        call()
    problem = next(problem for problem in caught.value.problems if problem.setting == setting)
    assert value in repr(problem.value)
    assert reason in problem.reason
    assert fix in problem.fix
    assert isinstance(caught.value, ArgumentsError | PrecisionError)
    assert ray_actors() == before


def ray_actors() -> set[str] | None:
    """Every actor that Ray ever started; None where Ray is off, as it is unless other tests came before."""
    return set(ray._private.state.actors()) if ray.is_initialized() else None


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ArgumentsError) as caught:
        trainer(compute_metrics="accuracy", data_collator="padding", eval_dataset="imdb")
    assert [problem.setting for problem in caught.value.problems] == [
        "eval_dataset",
        "data_collator",
        "compute_metrics",
    ]


def test_what_is_right_is_accepted(tmp_path: Path) -> None:
    trainer(
        args=TrainingArguments(tmp_path, use_cpu=True, eval_strategy="epoch", report_to="none"),
        eval_dataset={"a": ROWS, "b": ROWS},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(name="x"),
        precision="auto",
        compute_metrics=plain_metrics,
    )
    elastic(gradient_accumulation_steps=4)
    RaySeq2SeqTrainer(tiny_bert(), RaySeq2SeqTrainingArguments(tmp_path, report_to="none"), train_dataset=ROWS)


class OwnLoss(RayTrainer, abc.ABC):
    """Computes its loss itself, and keeps a tensor of what it is given."""

    def __init__(self, *args: Any, weights: list[float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weights = torch.tensor(weights)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        return model(**inputs)[0].sum()


def test_what_a_class_of_the_users_own_makes_right_is_accepted(tmp_path: Path) -> None:
    base = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    own = OwnLoss(base, arguments(label_names=["label"]), train_dataset=ROWS, data_collator=list, weights=[0.5])
    assert isinstance(own.weights, torch.Tensor)
    assert RayTrainer(tiny_bert(), None, train_dataset=ROWS).args.output_dir == "tmp_trainer"


TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
OwnBert = type("BertModel", (BertModel,), {})


@pytest.mark.parametrize(
    "make",
    [
        lambda: CLIPModel(CLIPConfig(text_config=TINY, vision_config=TINY)),
        lambda: ParakeetForCTC(ParakeetCTCConfig(encoder_config={**TINY, "subsampling_conv_channels": 8})),
        lambda: OwnBert(BertConfig(**TINY)),
    ],
    ids=["return_loss", "labels", "a class of the user's own"],
)
def test_a_model_that_may_have_a_loss_is_left_to_the_workers(make: Callable[[], Any]) -> None:
    model = make()
    assert type(model).__name__ in MODEL_MAPPING_NAMES.values()
    assert trainer(model=model).model is model


def test_a_constructor_that_hands_places_on() -> None:
    model = tiny_bert()
    made: Any = distribute(Distilling)("teacher", model, arguments(), list, ROWS)
    assert (made.model, made._bound["data_collator"], made._bound["train_dataset"]) == (model, list, ROWS)


def test_a_gradient_hook_does_not_vanish() -> None:
    model = tiny_bert()
    next(model.parameters()).register_hook(lambda gradient: gradient * 0)
    with pytest.raises(ShippingError, match="hooks on its gradient"):
        trainer(model=model)._pack_constructor()


@pytest.mark.parametrize("thing", [int, RayTrainer.train, "SFTTrainer"])
def test_distribute_takes_trainer_classes_only(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a subclass of transformers\.Trainer"):
        distribute(thing)


def test_what_cannot_travel_is_named() -> None:
    from raytrainer.shipping import Shipper

    class Locked(torch.utils.data.Dataset[Any]):
        lock = None

        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __len__(self) -> int:
            return 2

    held = trainer(train_dataset=Locked(), compute_metrics=plain_metrics)
    with pytest.raises(ShippingError) as caught:
        held._pack_constructor()
    (problem,) = caught.value.problems
    assert problem.setting == "train_dataset"
    assert "lock" in problem.reason
    assert "worker" in problem.fix
    assert Shipper().pack({"compute_metrics": plain_metrics}).pickled
