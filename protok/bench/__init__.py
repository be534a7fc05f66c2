"""StructTokenBench and more: how good is a structure tokenizer?

```python
from protok import bench

table = bench.evaluate(["3di", "residue-type"], tasks=["bind_biolip"], data="stb/", out="results/")
print(table)
```

Tasks are data (`protok.bench.TASKS`), data comes through one of three doors (a tidy folder, the
official release, the bundled mini set), every number is a file that says where it came from.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "evaluate": "run",
    "open_data": "run",
    "available": "run",
    "TASKS": "tasks",
    "Task": "tasks",
    "Folder": "folder",
    "Subject": "subjects",
    "subject": "subjects",
    "save_precomputed": "precomputed",
    "Settings": "probe",
    "prepare": "tidy",
    "load_results": "results",
    "write_report": "report",
}
_NAMES = {"load_results": "load", "write_report": "write"}
__all__ = [
    "TASKS", "Folder", "Settings", "Subject", "Task", "available", "evaluate", "load_results",
    "open_data", "prepare", "save_precomputed", "subject", "write_report",
]  # fmt: skip

if TYPE_CHECKING:
    from protok.bench.folder import Folder
    from protok.bench.precomputed import save_precomputed
    from protok.bench.probe import Settings
    from protok.bench.report import write as write_report
    from protok.bench.results import load as load_results
    from protok.bench.run import available, evaluate, open_data
    from protok.bench.subjects import Subject, subject
    from protok.bench.tasks import TASKS, Task
    from protok.bench.tidy import prepare


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"protok.bench.{_HOME[name]}"), _NAMES.get(name, name))
    raise AttributeError(f"module 'protok.bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
