"""What the program imports from its own folder."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class Names(TrainerCallback):
    """Worker: writes down on which host each rank is, and whether that has the program's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, Path(__file__).parent

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        sees = (self.home / "program.py").exists()
        (self.folder / f"host-{args.process_index}").write_text(f"{socket.gethostname()} {sees}")
