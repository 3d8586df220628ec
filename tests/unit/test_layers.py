"""A module imports only from layers below its own, and is on the map."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "raytrainer"

LAYERS: list[set[str]] = [
    {"errors", "events", "where", "environment", "importing", "secrets"},
    {
        *("config", "arguments", "sinks", "devices", "pickling", "manifests", "checkpoints", "patience", "snapshot"),
        *("address", "autoscaler", "loopback", "scratch"),
    },
    {
        *("precision", "contract", "shipping", "weights", "fsdp", "cluster", "wire", "outbox", "elastic"),
        *("keeping", "continuation", "deepspeed", "mutation", "rescheduling", "unpickling", "claim"),
    },
    {
        *(
            "tracking",
            "progress",
            "reporting",
            "plain",
            "metering",
            "monitoring",
            "relay",
            "listener",
            "order",
            "orders",
            "handover",
            "ranks",
            "holding",
        ),
        *("meaning", "resuming", "stopping", "saving", "pacing", "recovery", "run_record", "adoption"),
    },
    {"tasks"},
    {"worker"},
    {
        *("backend", "failures", "resizing", "start_clock", "early", "meeting", "ready", "ray_train", "group"),
        *("staying", "job", "run", "warming", "watching", "script"),
    },
    {"sweep"},
    {"recording", "checks"},
    {"searching"},
    {"recorded", "driver"},
    {"trainer"},
    {"launch"},
    {"__init__", "cli"},
    {"__main__"},
]
# A noun that has a folder: its files import each other.
PACKAGES = {"contract", "checks", "launch", "config", "tasks", "sweep", "searching"}
# Inside a layer, a noun that has several files: each may import those before it.
GROUPS = [
    ["secrets", "errors"],
    ["manifests", "checkpoints", "scratch"],
    ["elastic", "deepspeed_config"],
    ["wire", "outbox"],
    ["progress_view", "progress_screens", "progress_live", "progress"],
    [
        "tracking_target",
        "tracking_entry",
        "tracking_context",
        "tracking_seen",
        "tracking_head",
        "tracking_journal",
        "tracking_registry",
        "tracking_lane",
        "tracking_reach",
        "tracking_store",
        "tracking_run",
        "tracking_open",
        "tracking_writer",
        "tracking_sink",
        "tracking_page",
        "tracking",
        "tracking_model",
    ],
    [
        "relay",
        "listener",
        "stopping",
        "resuming",
        "order",
        "plain",
        "meaning",
        "metering",
        "reporting",
        "adoption",
        "saving",
        "pacing",
        "recovery",
        "handover",
        "holding",
    ],
    ["ranks", "holding"],
    [
        *("backend", "failures", "resizing", "start_clock", "early", "meeting", "ready", "ray_train", "group"),
        *("staying", "job", "run", "warming", "watching", "script_job"),
    ],
    [
        *("script_order", "script_main", "script_output", "script_storage", "script_imports", "script_hooks"),
        *("script_worker", "script_job"),
    ],
    ["recorded", "driver"],
    ["cli_arguments", "cli_runs", "cli_script", "cli_jobs", "cli_files", "cli"],
]


def layer(module: str) -> int:
    top = module.split(".")[0]
    return next(number for number, names in enumerate(LAYERS) if top in names or top.split("_")[0] in names)


def imports(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("raytrainer."):
            found.add(node.module.removeprefix("raytrainer."))
        elif isinstance(node, ast.ImportFrom) and node.module == "raytrainer":
            found |= {alias.name for alias in node.names}
    return found


def upward(module: str, source: str) -> list[str]:
    wrong = []
    for other in sorted(imports(source)):
        group = next((g for g in GROUPS if module in g and other in g), None)
        beside = other.split(".")[0] == module.split(".")[0] in PACKAGES
        in_order = group is not None and group.index(other) < group.index(module)
        if not (layer(other) < layer(module) or in_order or beside):
            wrong.append(other)
    return wrong


FILES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_down(module: str) -> None:
    assert upward(module.removesuffix(".__init__"), FILES[module].read_text()) == []


def test_a_planted_upward_import_is_caught() -> None:
    assert upward("shipping", "from raytrainer.worker import Order") == ["worker"]
    assert upward("recording", "from raytrainer import driver") == ["driver"]


def on_the_map() -> set[Path]:
    """Return what docs/map.md names; a name without a folder is in the folder of the one before it."""
    found: set[Path] = set()
    for row in re.findall(r"^\| (`.+?) \| [^|\s]", (ROOT / "docs/map.md").read_text(), re.MULTILINE):
        folder = ""
        for name in re.findall(r"`([^`]+)`", row):
            folder = name.rpartition("/")[0] + "/" if "/" in name.rstrip("/") else folder
            pattern = (name if "/" in name else folder + name).rstrip("/")
            there = [path for top in (PACKAGE, ROOT, PACKAGE / folder) for path in top.glob(pattern)]
            assert there, f"docs/map.md: there is no {pattern}"
            found |= {below for path in there for below in (path.rglob("*.py") if path.is_dir() else [path])}
    return found


def test_every_module_is_on_the_map() -> None:
    missing = {path for path in FILES.values() if path.name != "__init__.py"} - on_the_map()
    assert sorted(str(path.relative_to(ROOT)) for path in missing) == []
