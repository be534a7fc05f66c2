"""Checkpoints, metrics and figures that a kill cannot spoil.

A run may be killed at any moment. Files are written beside themselves and renamed, so each
is whole, old or new; the checkpoint before the last is kept; a row of metrics is on disk before
the checkpoint that follows it. `Last` writes a checkpoint only between two steps, after the
validation that is due, so that a resumed run repeats nothing and leaves nothing out.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.plugins.io import TorchCheckpointIO

from protok.common.files import add_lines, atomic_path
from protok.common.settings import RecipeError
from protok.errors import ProtokError

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
#: Seconds between figures of a run.
DRAW = 60


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged; the message says what is used instead."""


class OutOfMemory(ProtokError):
    """Training needs more memory than there is; the message says what to lower."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole at any moment.

    Lightning writes to the system's temporary folder and moves the file, which across
    file systems is a copy that a kill cuts short. Here the new file lies in its own folder, is
    on disk before it gets its name, and the last checkpoint becomes the previous one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write, flush to disk, keep the last as the previous, rename."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, path.parent) as draft:
            with draft.open("wb") as handle:
                torch.save(checkpoint, handle)
                handle.flush()
                os.fsync(handle.fileno())
            if path.name == LAST and path.exists():
                path.replace(path.with_name(PREVIOUS))


def latest(folder: str | Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a folder that can be read, and what is in it; None without any.

    Raises
    ------
    RecipeError
        If there are checkpoints, but none can be read.

    Warns
    -----
    CheckpointWarning
        If the last is damaged and the one before is used.
    """
    paths = [path for name in (LAST, PREVIOUS) if (path := Path(folder, name)).exists()]
    for path in paths:
        if (state := read_checkpoint(path, "trying the checkpoint before it")) is not None:
            return path, state
    if paths:
        remedy = "start again with another --out"
        raise RecipeError("no checkpoint of the run can be read", remedy, file=str(folder))
    return None


def read_checkpoint(path: Path, instead: str) -> dict[str, Any] | None:
    """What is in a checkpoint; if damaged None, and a warning that says what is done `instead`."""
    try:
        # torch reads past changed bytes; the archive that it writes knows their checksums.
        with zipfile.ZipFile(path) as archive:
            if (bad := archive.testzip()) is not None:
                raise ValueError(f"{bad} has changed")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
            raise ValueError("it is no checkpoint")
    # A damaged file raises whatever the first unreadable part of it raises.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(f"{path} cannot be read ({reason}); {instead}", CheckpointWarning, stacklevel=3)
        return None
    return state


class Last(Checkpoint):
    """Write ``last.ckpt`` every so many steps, and after each validation."""

    def __init__(self, folder: Path, every: int, validate: int):
        self.path, self.every, self.validate = folder / LAST, every, validate

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Between validations; where one is due it comes first, and its outcome is kept too."""
        step = trainer.global_step
        if step >= trainer.max_steps:
            trainer.should_stop = True  # which has Lightning validate also after the last step
        elif step % self.every == 0 and step % self.validate != 0:
            trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """After `Best` and `Patience` have seen it."""
        trainer.save_checkpoint(self.path)


@dataclass(frozen=True)
class Monitor:
    """What tells which weights are best: ``value`` of the validations, the lower the better.

    ``patience``: the run ends after so many validations in a row that improve it by less than
    ``gain``.
    """

    value: str
    gain: float
    patience: int


class Best(Checkpoint):
    """Keep the weights with the lowest held-out value, once all is discrete."""

    def __init__(self, folder: Path, monitor: Monitor):
        self.path, self.value, self.lowest = folder / BEST, monitor.value, math.inf

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """The error of continuous latents would be below that of any codes."""
        if module.hard and (value := float(trainer.callback_metrics[self.value])) < self.lowest:
            self.lowest = value
            trainer.save_checkpoint(self.path, weights_only=True)

    def state_dict(self) -> dict[str, float]:
        return {"lowest": self.lowest}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.lowest = state_dict["lowest"]


class Patience(EarlyStopping):
    """Stop when a `Monitor` sees no more progress; counts once all is discrete."""

    def __init__(self, monitor: Monitor):
        super().__init__(monitor.value, min_delta=monitor.gain, patience=monitor.patience)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """As for `Best`."""
        if module.hard:
            super().on_validation_end(trainer, module)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """A run that had ended is not trained further when it is resumed."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class Figures(Callback):
    """Call `draw` as the run goes, at most once in `DRAW` seconds, and when it ends."""

    def __init__(self, draw: Callable[[], None]):
        self.draw, self.drawn = draw, time.monotonic()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Not too often, for it takes a second."""
        if time.monotonic() - self.drawn > DRAW:
            self.on_fit_end(trainer, module)

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        """On the first process only."""
        if trainer.is_global_zero:
            self.draw()
            self.drawn = time.monotonic()


class Lines(Callback):
    """Say how far a run is in lines, for a log: at its start, and with each validation."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Also of a run that goes on."""
        self.on_validation_end(trainer, module)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """On the first process only."""
        if trainer.is_global_zero:
            values = (f", {key} {float(value):.4g}" for key, value in trainer.progress_bar_metrics.items())
            print(f"step {trainer.global_step} of {trainer.max_steps}{''.join(values)}", file=sys.stderr)


class MetricsFile:
    """Metrics of a run as CSV, a row at a time, each on disk when `write` returns.

    Parameters
    ----------
    path
        Of the file.
    resume
        Steps that are done; later rows, which a killed run may have left, are dropped. 0 begins
        anew.

    Attributes
    ----------
    rows : list of dict
        ``step``, how many steps were done, and what was measured then.
    """

    def __init__(self, path: str | Path, resume: int = 0):
        self.path = Path(path)
        self.rows = [row for row in read_metrics(path) if row["step"] <= resume] if resume else []
        self.columns = list(dict.fromkeys(["step", *(key for row in self.rows for key in row)]))
        self._rewrite()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row."""
        row = {"step": float(step), **{k: float(v) for k, v in values.items()}}
        self.rows.append(row)
        if fresh := [key for key in row if key not in self.columns]:
            self.columns += fresh
            self._rewrite()
        else:
            add_lines(self.path, self._line(row))

    def _line(self, row: Mapping[str, float]) -> str:
        cells = (f"{row[key]:.9g}" if key in row else "" for key in self.columns)
        return ",".join(cells) + "\n"

    def _rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path, self.path.parent) as draft:
            draft.write_text(",".join(self.columns) + "\n" + "".join(map(self._line, self.rows)), "utf-8")


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """Rows of a metrics file, without empty cells; a row that a kill cut short is left out."""
    if not Path(path).exists():
        return []
    with Path(path).open(encoding="utf-8", newline="") as handle:
        head, *lines = [*csv.reader(handle)] or [[]]
    rows = []
    for line in lines:
        # Too few cells, or half a number.
        with contextlib.suppress(ValueError):
            rows.append({k: float(v) for k, v in zip(head, line, strict=True) if v})
    return [row for row in rows if "step" in row]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in message for sign in ("out of memory", "can't allocate memory", "not enough memory")
    )
