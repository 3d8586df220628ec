"""Worker: the model of a config, and its tokenizer or image processor."""

from __future__ import annotations

import difflib
import inspect
import os
from typing import Any

from datasets import Dataset
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from raytrainer.config.schema import Model, TrainedTokenizer
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.tasks.task import TaskOf
from raytrainer.tasks.tokenizers import train_tokenizer

_TRAINED = ("characters", "words", "bpe")


def tokenizer_of(task: TaskOf, training: Dataset) -> Any:
    """Return the tokenizer of a config, trained on the training examples where it says so.

    Raises:
        UserError: there is no such tokenizer.
    """
    model: Model = task.config.model
    asked = model.tokenizer
    if isinstance(asked, str) and asked in _TRAINED:
        asked = TrainedTokenizer(kind=asked)  # type: ignore[arg-type]  # it is one of the three
    if isinstance(asked, TrainedTokenizer):
        limit = task.config.data.max_length
        return train_tokenizer(asked.kind, asked.vocab_size, task.texts(training), task.ends, limit)
    name = asked or model.name
    assert name is not None, "the config has a name or a tokenizer"
    setting = "model.tokenizer" if asked else "model.name"
    with_model = {"revision": model.revision} if name == model.name else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            _path(name), trust_remote_code=model.trust_remote_code, **_given(**with_model)
        )
    except (OSError, ValueError) as error:
        raise _not_loaded(setting, name, error) from error
    if tokenizer.pad_token is None:
        # Decoders often have none; padding is masked out of attention and loss.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def image_processor_of(model: Model) -> Any:
    """Return the image processor of a pretrained model, None for a new model."""
    if model.name is None:
        return None
    try:
        return AutoImageProcessor.from_pretrained(
            _path(model.name), trust_remote_code=model.trust_remote_code, **_given(revision=model.revision)
        )
    except (OSError, ValueError) as error:
        raise _not_loaded("model.name", model.name, error) from error


def build_model(task: TaskOf, settings: dict[str, Any], tokenizer: Any) -> Any:
    """Load or make the model of a config.

    Args:
        task: whose.
        settings: entries of its configuration that follow from the data.
        tokenizer: of a new model; None for one that has none.

    Returns:
        The model, with an adapter where the config has ``peft``.

    Raises:
        UserError: there is no such model, or its configuration takes no such setting.
    """
    asked: Model = task.config.model
    options = _given(attn_implementation=asked.attn_implementation)
    if asked.from_config is not None:
        config = new_config(asked.from_config, settings, tokenizer)
        try:
            model = task.auto.from_config(
                config, trust_remote_code=asked.trust_remote_code, **_given(dtype=asked.dtype), **options
            )
        except (ValueError, TypeError, KeyError) as error:
            fix = f"a model_type that {task.auto.__name__} knows, with settings that fit each other"
            raise ArgumentsError(Problem("model.from_config", asked.from_config, str(error), fix)) from error
    else:
        assert asked.name is not None
        try:
            model = task.auto.from_pretrained(
                _path(asked.name),
                trust_remote_code=asked.trust_remote_code,
                ignore_mismatched_sizes=True,  # a head for other labels
                dtype=asked.dtype or "float32",  # else as they are saved, and small updates get lost in 16 bits
                **_given(revision=asked.revision),
                **options,
                **settings,
            )
        except (OSError, ValueError) as error:
            raise _not_loaded("model.name", asked.name, error) from error
        if tokenizer is not None:
            if len(tokenizer) > model.get_input_embeddings().num_embeddings:
                model.resize_token_embeddings(len(tokenizer))
            _tell_padding(model, tokenizer)
    return _with_adapter(model, asked.peft, task) if asked.peft is not None else model


def _tell_padding(model: Any, tokenizer: Any) -> None:
    # transformers does it when it trains: too late for what is found out before.
    for config in (model.config.get_text_config(), getattr(model, "generation_config", None)):
        if config is not None and getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = tokenizer.pad_token_id


def new_config(asked: dict[str, Any], settings: dict[str, Any], tokenizer: Any) -> Any:
    """Make the configuration of a new model.

    Args:
        asked: ``model_type`` and settings of its configuration.
        settings: what follows from the data.
        tokenizer: the size of its vocabulary and its special tokens are the model's; None for none.

    Raises:
        UserError: there is no such type, or it takes no such setting.
    """
    kind, own = asked["model_type"], {name: value for name, value in asked.items() if name != "model_type"}
    try:
        plain = AutoConfig.for_model(kind)
    except ValueError as error:
        fix = "a model_type that the installed transformers has, for example bert, llama, t5, vit"
        raise ArgumentsError(Problem("model.from_config.model_type", kind, "there is no such type", fix)) from error
    known = {*plain.to_dict(), *inspect.signature(type(plain).__init__).parameters, *plain.attribute_map}
    problems = []
    for name in own.keys() - known:
        # transformers would keep it as an attribute that nothing reads.
        near = difflib.get_close_matches(name, known, n=1)
        fix = f"write {near[0]!r}" if near else f"a field of {type(plain).__name__}"
        problems.append(Problem(f"model.from_config.{name}", own[name], f"{kind} has no such setting", fix))
    if problems:
        raise ArgumentsError(*problems)
    from_tokenizer: dict[str, Any] = {}
    if tokenizer is not None:
        names = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
        ids = {name: getattr(tokenizer, name) for name in names if name in known}
        from_tokenizer = {"vocab_size": len(tokenizer), **_given(**ids)}
        if plain.is_encoder_decoder:
            from_tokenizer |= {"decoder_start_token_id": tokenizer.pad_token_id}
            from_tokenizer |= {name: tokenizer.eos_token_id for name in ["forced_eos_token_id"] if name in known}
    return AutoConfig.for_model(kind, **{**from_tokenizer, **settings, **own})


def _with_adapter(model: Any, fields: dict[str, Any], task: TaskOf) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    kinds = {
        "AutoModelForSequenceClassification": TaskType.SEQ_CLS,
        "AutoModelForTokenClassification": TaskType.TOKEN_CLS,
        "AutoModelForCausalLM": TaskType.CAUSAL_LM,
        "AutoModelForSeq2SeqLM": TaskType.SEQ_2_SEQ_LM,
    }
    kind = kinds.get(task.auto.__name__)
    given = {"task_type": kind, **fields}
    if task.auto.__name__ == "AutoModelForImageClassification":
        # peft knows no such task: the new head would stay as it was drawn.
        heads = [name for name, _ in model.named_children() if name != model.base_model_prefix]
        given.setdefault("modules_to_save", heads)
    try:
        return get_peft_model(model, LoraConfig(**given))
    except (ValueError, TypeError) as error:
        fix = "fields of peft.LoraConfig; target_modules names layers of the model, for example [q_proj, v_proj]"
        raise ArgumentsError(Problem("model.peft", fields, str(error), fix)) from error


def _path(name: str) -> str:
    whole = os.path.expanduser(name)
    return whole if os.path.isdir(whole) else name


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _not_loaded(setting: str, name: str, error: Exception) -> ArgumentsError:
    first = str(error).strip().splitlines()[0]
    fix = "the folder of a model (save_pretrained), or the name of one on the hub that this machine can reach"
    return ArgumentsError(Problem(setting, name, f"it cannot be loaded: {first}", fix))
