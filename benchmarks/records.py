"""Many results of one kind in one Parquet file: a row a result, the whole of it kept as JSON.

```python
records.put(RESULTS / "design.parquet", "base", {...})
records.read(RESULTS / "design.parquet")["base"]
```

The first columns say what a row is (`name`, and where its numbers come from), so that a table can be
read by any program; `record` is the result itself, from which nothing is left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Columns beside the record, taken from it where it has them.
COLUMNS = ("protok", "command", "seed")


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Results by name, in the order of the file; none where there is no file."""
    import pyarrow.parquet as pq

    if not path.exists():
        return {}
    table = pq.read_table(path, columns=["name", "record"])
    return {row["name"]: json.loads(row["record"]) for row in table.to_pylist()}


def put(path: Path, name: str, result: Mapping[str, Any]) -> None:
    """Add a result, or put it in place of that of the same name.

    The file is whole at any moment; two processes must not write to one file at the same time.
    """
    write(path, read(path) | {name: dict(result)})
    print(f"wrote {name} to {path}")


def write(path: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Write all results, sorted by name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = sorted(results.items())
    columns: dict[str, list] = {"name": [name for name, _ in rows]}
    for key in COLUMNS:
        columns[key] = [result.get(key) for _, result in rows]
    columns["record"] = [json.dumps(result, separators=(",", ":")) for _, result in rows]
    kinds = {"seed": pa.int64()}
    schema = pa.schema([(key, kinds.get(key, pa.string())) for key in columns])
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    pq.write_table(pa.table(columns, schema=schema), draft, compression="zstd", compression_level=19)
    os.replace(draft, path)
