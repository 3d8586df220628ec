"""Worker: written texts, measured against wanted ones by libraries that need no hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np


def text_metrics(names: Iterable[str], written: list[str], wanted: list[str]) -> dict[str, float]:
    """Measure texts.

    Args:
        names: ``exact_match`` and ``rouge`` (``rouge1``, ``rouge2``, ``rougeL``) from 0 to 1; ``bleu`` and ``chrf`` of
            the whole set, from 0 to 100 as sacrebleu gives them; ``wer`` and ``cer``, mistakes a word or character of
            what is wanted, 0 for none.
        written: by the model.
        wanted: as many.
    """
    measured: dict[str, float] = {}
    for name in names:
        measured |= _METRICS[name](written, wanted)
    return measured


def _exact_match(written: list[str], wanted: list[str]) -> dict[str, float]:
    return {"exact_match": float(np.mean([one == other for one, other in zip(written, wanted, strict=True)]))}


def _bleu(written: list[str], wanted: list[str]) -> dict[str, float]:
    from sacrebleu import corpus_bleu

    return {"bleu": float(corpus_bleu(written, [wanted]).score)}


def _chrf(written: list[str], wanted: list[str]) -> dict[str, float]:
    from sacrebleu import corpus_chrf

    return {"chrf": float(corpus_chrf(written, [wanted]).score)}


def _rouge(written: list[str], wanted: list[str]) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(kinds, tokenizer=_Words())
    scores = [scorer.score(target, prediction) for target, prediction in zip(wanted, written, strict=True)]
    return {kind: float(np.mean([score[kind].fmeasure for score in scores])) for kind in kinds}


class _Words:
    """Words of any script; rouge-score's own tokenizer throws away all letters but a to z."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())


def _wer(written: list[str], wanted: list[str]) -> dict[str, float]:
    import jiwer

    return {"wer": float(jiwer.wer(wanted, written))}


def _cer(written: list[str], wanted: list[str]) -> dict[str, float]:
    import jiwer

    return {"cer": float(jiwer.cer(wanted, written))}


_METRICS: dict[str, Callable[[list[str], list[str]], dict[str, float]]] = {
    **{"exact_match": _exact_match, "bleu": _bleu, "chrf": _chrf},
    **{"rouge": _rouge, "wer": _wer, "cer": _cer},
}
