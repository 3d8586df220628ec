"""A trainer held to the model contract, the same on every rank, before it does anything."""

from __future__ import annotations

from transformers import Trainer

from raytrainer.contract import Verdict, inspect_model
from raytrainer.errors import ContractError
from raytrainer.handover import travelling
from raytrainer.outbox import Outbox
from raytrainer.ranks import gather

_LOSS_SCALE = (
    "{model} takes num_items_in_batch and ignores it: transformers would log and train on a loss too large by the"
    " number of workers times accumulation steps. Corrected; loss_scale='transformers' gives the stock figures."
)
_LOSS_SCALE_LEFT = (
    "{model} takes num_items_in_batch and ignores it: transformers logs and trains on a loss too large by the number of"
    " workers times accumulation steps, as under torchrun; --loss-scale auto corrects it"
)


def hold_to_contract(trainer: Trainer, trains: bool, loss_scale: str | None, outbox: Outbox) -> None:
    """Inspect the model, tell the user what was found, and correct the loss where that was asked for.

    Args:
        trainer: built on this worker; every other rank does the same.
        trains: whether it is going to train, or only to evaluate or predict.
        loss_scale: ``auto`` corrects the loss of a model that ignores ``num_items_in_batch``; ``transformers`` leaves
            it; None leaves it and tells the user.
        outbox: the way to the driver.

    Raises:
        ContractError: the model breaks the contract.
    """
    # On every rank, though rank 0's word counts: a model may talk to the other ranks in its forward.
    verdict: Verdict | BaseException
    try:
        verdict = inspect_model(trainer, probe_loss_scale=loss_scale != "transformers")
    except Exception as error:  # handed round: the other ranks wait for this one's verdict
        verdict = travelling(error)
    verdicts = gather(verdict)
    for failure in verdicts:
        if isinstance(failure, BaseException):
            raise failure
    first = verdicts[0]
    assert not isinstance(first, BaseException)
    if trains:
        if first.problems:
            raise ContractError(*first.problems)
        for problem in first.warnings:
            outbox.warn(str(problem))
        if first.skipped:
            outbox.note(f"the model was not inspected: {first.skipped}")
    if first.ignores_num_items:
        if loss_scale is not None:
            trainer.model_accepts_loss_kwargs = False
        # Said once: an evaluation after the training has a state that has begun.
        if trainer.state.global_step == 0:
            text = _LOSS_SCALE if loss_scale else _LOSS_SCALE_LEFT
            outbox.warn(text.format(model=type(trainer.model).__name__))
