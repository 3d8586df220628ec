"""The reference: a recipe with bare transformers, to be run by torchrun. Usage: under_torchrun.py RECIPE FOLDER."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import transformers

from tests.ray.recipes import RECIPES


def main(name: str, folder: Path) -> None:
    recipe = RECIPES[name]
    kind = "Seq2SeqTrain" if recipe.seq2seq else "Train"
    arguments = getattr(transformers, f"{kind}ingArguments")(folder / "out", use_cpu=True, **recipe.arguments)
    trainer = getattr(transformers, f"{kind}er")(args=arguments, **recipe.build())
    assert trainer.args.world_size == 2
    output = trainer.train()
    evaluation = trainer.evaluate()
    prediction = trainer.predict(trainer.eval_dataset, **recipe.predict)
    if trainer.is_world_process_zero():
        weights = {name: tensor.numpy() for name, tensor in trainer.model.state_dict().items()}
        result = (output, trainer.state.log_history, evaluation, prediction, weights)
        (folder / "result.pickle").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
