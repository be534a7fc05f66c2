"""StructTokenBench and more: how good is a structure tokenizer?

```python
from protok import bench

table = bench.evaluate(["3di", "residue-type"], tasks=["bind_biolip"], data="stb/", out="results/")
print(table)
```

Tasks are data (`protok.bench.TASKS`), data comes from one of three sources (a tidy folder, the
official release, the bundled mini set), every number is a file that says where it came from.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from protok.bench.data.folder import Folder
    from protok.bench.data.prepare import prepare
    from protok.bench.evaluation import available, evaluate, open_data
    from protok.bench.measures.samples import Settings
    from protok.bench.packing import load_results, pack
    from protok.bench.report import write_report
    from protok.bench.representations.load import representation
    from protok.bench.representations.precomputed import save_precomputed
    from protok.bench.representations.representation import Representation
    from protok.bench.results import Result
    from protok.bench.tasks import TASKS, Task

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "data.folder": ["Folder"],
        "data.prepare": ["prepare"],
        "evaluation": ["available", "evaluate", "open_data"],
        "measures.samples": ["Settings"],
        "packing": ["load_results", "pack"],
        "report": ["write_report"],
        "representations.load": ["representation"],
        "representations.precomputed": ["save_precomputed"],
        "representations.representation": ["Representation"],
        "results": ["Result"],
        "tasks": ["TASKS", "Task"],
    },
)
