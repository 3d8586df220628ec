"""A trainer's constructor call, recorded on the driver and made on each worker: the Python way's trainer factory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import Trainer, TrainingArguments

from raytrainer import shipping


@dataclass(frozen=True)
class Recording:
    """A trainer factory: the class, and what its constructor was given, packed.

    The trainer exists before its arguments are unpacked, so that a callback which holds the trainer holds, on the
    worker, the worker's own.

    Args:
        kind: the trainer's class; it travels by value where it is not importable.
        call: packed (positional arguments, keyword arguments, attributes assigned later, callback operations).
        trial: what ``model_init`` is given where it takes an argument; None where no search made it.
    """

    kind: type[Trainer]
    call: shipping.Parcel
    trial: Mapping[str, Any] | None = None

    def __call__(self, arguments: TrainingArguments) -> Trainer:
        """Build the trainer.

        Args:
            arguments: built on this worker; they stand where the driver's stood.

        Returns:
            A trainer of the recorded class.
        """
        trainer = self.kind.__new__(self.kind)
        named = {"trainer": trainer, "arguments": arguments}
        args, kwargs, assigned, operations = shipping.unpack(self.call, named)
        if self.trial is not None:
            # transformers asks for a model twice, in the constructor and in train(), and knows of a trial in neither.
            make = trainer.call_model_init
            vars(trainer)["call_model_init"] = lambda trial=None: make(self.trial)  # type: ignore[arg-type]  # a dict
        trainer.__init__(*args, **kwargs)  # type: ignore[misc]  # the constructor call itself, made late
        for operation, callback in operations:
            getattr(trainer, operation)(callback)
        for name, value in assigned.items():
            setattr(trainer, name, value)
        return trainer
