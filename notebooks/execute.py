"""Run notebooks from top to bottom, and keep their outputs.

    python notebooks/execute.py                        # all of them, in place
    python notebooks/execute.py 05_images -o FOLDER    # one, written elsewhere

Needs nbclient and ipykernel, which `pip install ".[dev]"` brings. What differs from machine to
machine, such as times, is not kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HERE = Path(__file__).resolve().parent


def execute(source: Path, out: Path) -> None:
    """Run a notebook in the folder `notebooks`; nothing is written if a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(source, as_version=4)
    place = {"metadata": {"path": str(HERE)}}
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources=place, record_timing=False
    ).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, out)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of notebooks, without .ipynb (default: all)")
    parser.add_argument("-o", "--out", type=Path, default=HERE, help="folder (default: in place)")
    options = parser.parse_args(arguments)
    for name in options.names or sorted(path.stem for path in HERE.glob("*.ipynb")):
        execute(HERE / f"{name}.ipynb", options.out / f"{name}.ipynb")
        print(f"wrote {options.out / name}.ipynb")


if __name__ == "__main__":
    main()
