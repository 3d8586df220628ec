"""Worker: metrics, by libraries that need no hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import EvalPrediction

from raytrainer.tasks.spans import spans_of


def first(predictions: Any) -> NDArray[Any]:
    """Return the logits of what a model returned: models of some families return more beside them."""
    return predictions[0] if isinstance(predictions, tuple) else predictions  # type: ignore[no-any-return]  # an array


def softmax(scores: NDArray[Any]) -> NDArray[Any]:
    """Turn one row of logits into probabilities."""
    exponents = np.exp(scores - scores.max())
    return exponents / exponents.sum()  # type: ignore[no-any-return]  # an array


def likeliest(scores: NDArray[Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the row of predictions.jsonl that one row of logits means."""
    return {"prediction": names[int(np.argmax(scores))], "score": float(softmax(scores).max())}


def one_label(prediction: EvalPrediction) -> dict[str, float]:
    """Measure logits, shape (examples, labels), as :func:`classification`."""
    return classification(np.argmax(first(prediction.predictions), axis=-1), prediction.label_ids)


def classification(predicted: NDArray[Any], wanted: Any) -> dict[str, float]:
    """Measure one label an example.

    Args:
        predicted: numbers of labels, shape (examples,).
        wanted: the right ones, same shape.

    Returns:
        ``accuracy``, macro averages ``f1``, ``precision``, ``recall``, and ``matthews`` correlation.
    """
    from sklearn.metrics import accuracy_score, matthews_corrcoef, precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(wanted, predicted, average="macro", zero_division=0)
    return {
        "accuracy": float(accuracy_score(wanted, predicted)),
        **{"f1": float(f1), "precision": float(precision), "recall": float(recall)},
        "matthews": float(matthews_corrcoef(wanted, predicted)),
    }


def several_labels(predicted: NDArray[Any], wanted: Any) -> dict[str, float]:
    """Measure several labels an example.

    Args:
        predicted: which labels each example was given, shape (examples, labels), boolean.
        wanted: which it has, same shape, 0 or 1.

    Returns:
        ``accuracy`` (of whole rows), ``f1`` (micro), ``f1_macro``, ``precision``, ``recall`` (micro).
    """
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    wanted = np.asarray(wanted).astype(int)
    given = predicted.astype(int)
    precision, recall, f1, _ = precision_recall_fscore_support(wanted, given, average="micro", zero_division=0)
    return {
        "accuracy": float((given == wanted).all(axis=1).mean()),
        **{"f1": float(f1), "precision": float(precision), "recall": float(recall)},
        "f1_macro": float(f1_score(wanted, given, average="macro", zero_division=0)),
    }


def regression(predicted: NDArray[Any], wanted: Any) -> dict[str, float]:
    """Measure estimated numbers.

    Args:
        predicted: shape (examples,).
        wanted: same shape.

    Returns:
        ``mse``, ``mae``, ``r2``, and ``pearson`` and ``spearman`` correlation; all NaN where a prediction is not
        finite, as of a training that diverged.
    """
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    if not np.isfinite(predicted).all():
        return dict.fromkeys(("mse", "mae", "r2", "pearson", "spearman"), float("nan"))
    wanted = np.asarray(wanted).reshape(-1)
    constant = len(wanted) < 2 or np.ptp(wanted) == 0 or np.ptp(predicted) == 0
    return {
        "mse": float(mean_squared_error(wanted, predicted)),
        "mae": float(mean_absolute_error(wanted, predicted)),
        "r2": float(r2_score(wanted, predicted)) if len(wanted) > 1 else 0.0,
        # Where one side is constant there is no correlation, and scipy would say NaN.
        "pearson": 0.0 if constant else float(pearsonr(wanted, predicted)[0]),
        "spearman": 0.0 if constant else float(spearmanr(wanted, predicted)[0]),
    }


def spans(rows: Sequence[tuple[Sequence[str], Sequence[str]]]) -> dict[str, float]:
    """Measure spans of words, marked by IOB tags: one is right when beginning, end and kind are.

    Args:
        rows: of each text, the tags that were given and the right ones.

    Returns:
        ``accuracy`` (of tags), ``f1``, ``precision``, ``recall`` (of spans).
    """
    given = {(row, *span) for row, (tags, _) in enumerate(rows) for span in spans_of(tags)}
    wanted = {(row, *span) for row, (_, tags) in enumerate(rows) for span in spans_of(tags)}
    right = len(given & wanted)
    tags = [one == other for row in rows for one, other in zip(*row, strict=True)]
    return {
        "accuracy": sum(tags) / max(len(tags), 1),
        "f1": 2 * right / max(len(given) + len(wanted), 1),
        "precision": right / max(len(given), 1),
        "recall": right / max(len(wanted), 1),
    }
