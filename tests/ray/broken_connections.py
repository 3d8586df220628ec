"""A driver and a rank 0 that talk through a relay, for a Ray that loses their calls.

``python -m tests.ray.broken_connections STEPS FILE`` writes as JSON what the driver heard and what the rank was told.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import ray

from raytrainer.events import Evaluated, Event, Note
from raytrainer.listener import Listener
from raytrainer.relay import relay_here
from raytrainer.wire import RelayWire, Verdict

_VERDICTS = [Verdict.GO_ON, Verdict.SAVE, Verdict.STOP]


class Heard:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def handle(self, event: Event) -> None:
        assert isinstance(event, Note)
        self.texts.append(event.text)

    def close(self, error: BaseException | None) -> None: ...


def main(steps: int, file: Path) -> None:
    ray.init(log_to_driver=False)
    heard, judged, told = Heard(), list[int](), list[str]()

    def judge(evaluated: Evaluated) -> Verdict:
        judged.append(evaluated.step)
        return _VERDICTS[evaluated.step % len(_VERDICTS)]

    relay = relay_here()

    def rank_0() -> None:
        wire = RelayWire(relay)
        for step in range(steps):
            wire.push(Note(str(step)))
            told.append(wire.judge(Evaluated(step, steps, None, {}, 0.0)).name)
        wire.deliver("result")

    with Listener(relay, [heard], judge) as listener:
        rank = threading.Thread(target=rank_0)
        rank.start()
        rank.join()
    file.write_text(json.dumps({"heard": heard.texts, "judged": judged, "told": told, "result": listener.result}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
