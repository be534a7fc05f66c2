"""StructTokenBench and more: how good is a structure tokenizer?

```python
from protok import bench

table = bench.evaluate(["3di", "residue-type"], tasks=["bind_biolip"], data="stb/", out="results/")
print(table)
```

Tasks are data (`protok.bench.TASKS`), data comes from one of three sources (a tidy folder, the
official release, the bundled mini set), every number is a file that says where it came from.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
