"""One run of training, whatever is trained: from an empty folder, or a killed run, to a model.

A run may be killed at any moment and resumed; it then ends with the weights that it would have had
(see `protok.common.callbacks`). Knows no model in particular.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from protok.common import callbacks, progress
from protok.common.files import atomic_folder, lock, write_json
from protok.common.settings import RecipeError
from protok.common.trainer import LOG, on_this_machine


class TrainingModule(lightning.LightningModule):
    """What a `TrainingRun` trains: its values go to the log and to ``metrics.csv``.

    Attributes
    ----------
    metrics : MetricsFile or None
        Where the first process writes what it measures.
    data_sha256 : str
        Of the training data, which must be the same when a checkpoint is resumed.
    """

    metrics: callbacks.MetricsFile | None = None
    data_sha256: str = ""

    @property
    def hard(self) -> bool:
        """Whether the model is validated as it will be used, so that weights can be compared."""
        return True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint knows its data."""
        checkpoint["data_sha256"] = self.data_sha256

    def record(self, step: int, values: Mapping[str, Any], *shown: str) -> None:
        """Log what the training step with this number, from 1, found; `shown` beside its progress.

        Every `LOG` steps it is a row of the metrics.
        """
        for key, value in values.items():
            self.log(key, value, prog_bar=key in shown)
        if self.metrics and step % LOG == 0:
            self.metrics.write(step, {k: float(torch.as_tensor(v).detach()) for k, v in values.items()})

    def record_validation(self, values: Mapping[str, float], n: int, *shown: str) -> None:
        """Log what a validation on `n` records found, always also as a row of the metrics."""
        for key, value in values.items():
            self.log(key, value, prog_bar=key in shown, batch_size=n)
        if self.metrics:
            self.metrics.write(self.global_step, values)


def name_of(out: Path) -> str:
    """Of a model that nobody named: the folder of its run."""
    return re.sub(r"[^\w.-]+", "-", out.resolve().name).strip("-") or "run"


class TrainingRun:
    """A folder that gets ``recipe.json``, ``metrics.csv``, ``checkpoints/`` and ``model/``.

    `begin`, `fit` and `write` are called in this order.

    Parameters
    ----------
    out
        The folder; it also gets ``tensorboard/`` where that is installed.
    resume
        Go on from the last checkpoint in `out`, if there is one.

    Attributes
    ----------
    settings : dict
        Nested tables of ``recipe.json``, for what a resumed run is not told anew.
    steps : int
        So many are done.
    model : Path
        Folder of the finished model.

    Raises
    ------
    RecipeError
        If the folder holds a run and is not to be resumed, or none of its checkpoints can be read.
    """

    def __init__(self, out: str | Path, resume: bool = False):
        self.out = Path(out)
        self.checkpoints, self.model = self.out / "checkpoints", self.out / "model"
        newest = callbacks.latest(self.checkpoints)
        if newest and not resume:
            raise RecipeError("holds a run already", "give --resume or another --out", file=str(out))
        self.checkpoint, state = newest or (None, {})
        self.steps = int(state.get("global_step", 0))
        self.data_sha256: str = state.get("data_sha256", "")
        self.recipe = self.out / "recipe.json"
        known = resume and self.recipe.exists()
        self.settings = json.loads(self.recipe.read_text(encoding="utf-8")) if known else {}

    @property
    def first(self) -> bool:
        """Whether this process writes, of those that train together."""
        return rank_zero_only.rank == 0

    def options(self, overrides: Mapping[str, Any] | None, train: str | Path | None) -> dict[str, Any]:
        """Overrides of a recipe whose data are named apart from it.

        What the recipe is validated on does not belong to them: it is left out, unless a resumed
        run has said what to take.
        """
        if train is None:
            return dict(overrides or {})
        valid = self.settings.get("data", {}).get("valid", "")
        return {"data.valid": valid, **(overrides or {}), "data.train": str(train)}

    def begin(self, plan: Any, digest: str) -> Any:
        """Write ``recipe.json`` and seed; returns the plan with a name, and what is best on this machine.

        Parameters
        ----------
        plan
            A recipe with sections ``model``, ``optim`` and ``valid``.
        digest
            Of the training data.

        Raises
        ------
        RecipeError
            If they are not those that the run began with, or another process trains in this folder.
        """
        if self.data_sha256 not in ("", digest):
            remedy = "restore them, or start again with another --out"
            raise RecipeError(
                "the training data have changed since the run began", remedy, file=str(self.out)
            )
        self.data_sha256 = digest
        if not plan.model.name:
            plan = replace(plan, model=replace(plan.model, name=name_of(self.out)))
        self.plan = on_this_machine(plan, self.recipe if self.settings else None)
        self.out.mkdir(parents=True, exist_ok=True)
        if self.first:
            with self._alone():
                write_json(self.recipe, asdict(self.plan))
                if self.checkpoint is None:
                    (self.checkpoints / callbacks.BEST).unlink(missing_ok=True)
                elif self.checkpoint.name == callbacks.PREVIOUS:
                    # The last is damaged: it must not take the place of the one that is gone on from.
                    (self.checkpoints / callbacks.LAST).unlink(missing_ok=True)
        lightning.seed_everything(self.plan.optim.seed, verbose=False)
        return self.plan

    def fit(
        self,
        module: TrainingModule,
        batches: DataLoader,
        *,
        monitor: callbacks.Monitor | None = None,
        draw: Callable[[list[dict[str, float]], Path], None] | None = None,
        devices: int = 0,
        **more: Any,
    ) -> None:
        """Train to the last step, or until `monitor` sees no more progress.

        Parameters
        ----------
        module, batches
            What is trained, on what; the module knows what it is validated on.
        monitor
            Keeps the best weights and ends the run early; None trains to the end.
        draw
            Called with the rows of metrics so far, to draw ``training.svg``.
        devices
            How many processes train together; 0 for one each GPU, or one on the CPU.
        more
            Further arguments of ``lightning.Trainer``.

        Raises
        ------
        KeyboardInterrupt
            Of Ctrl-C, which Lightning would make a silent exit.
        RecipeError
            If another process trains in this folder.
        """
        watchers: list[lightning.Callback] = []
        if draw is not None:
            watchers.append(callbacks.Figures(lambda: draw(self.rows, self.out / "training.svg")))
        if monitor is not None:
            watchers += [callbacks.Patience(monitor), callbacks.Best(self.checkpoints, monitor)]
        if progress.wanted and not sys.stderr.isatty():
            watchers.append(callbacks.Lines())
        # torchrun says how many processes it has started, on this machine and in all.
        local, world = (int(os.environ.get(key, 0)) for key in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        nodes = world // local if local else 1
        self.trainer = self._trainer(watchers, devices=devices or local or "auto", num_nodes=nodes, **more)
        module.data_sha256 = self.data_sha256
        if self.trainer.is_global_zero:
            module.metrics = callbacks.MetricsFile(self.out / "metrics.csv", self.steps)
        self.rows = module.metrics.rows if module.metrics else []
        self.began = time.time()
        before = signal.getsignal(signal.SIGINT)
        try:
            with self._alone() if self.first else nullcontext():
                if self.first:  # another run may have begun here since this one has
                    write_json(self.recipe, asdict(self.plan))
                self.trainer.fit(
                    module,
                    batches,
                    DataLoader([0], batch_size=None),  # pyright: ignore[reportArgumentType]  any sequence
                    ckpt_path=self.checkpoint and str(self.checkpoint),
                    weights_only=True,
                )
        except SystemExit as error:
            if not self.trainer.interrupted:
                raise
            signal.signal(signal.SIGINT, before)  # Lightning has shut it off
            # Of SIGTERM the command line makes another kind of it.
            kind = (
                type(error.__context__)
                if isinstance(error.__context__, KeyboardInterrupt)
                else KeyboardInterrupt
            )
            raise kind("--resume goes on from the last checkpoint") from error
        self.steps = self.trainer.global_step

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other trainings out of the folder."""
        with ExitStack() as held:
            try:
                held.enter_context(lock(self.out / "run.lock", wait=False))
            except BlockingIOError as error:
                remedy = "wait for it, or give another --out"
                raise RecipeError("another process trains here", remedy, file=str(self.out)) from error
            yield

    def _trainer(self, watchers: list[lightning.Callback], **more: Any) -> lightning.Trainer:
        # Workers are the recipe's choice, a stream of batches has no length, and all processes
        # validate on the same.
        needless = "does not have many workers|IterableDataset|LeafSpec|recommended to use .*sync_dist"
        warnings.filterwarnings("ignore", f".*({needless})")
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        optim, every = self.plan.optim, min(self.plan.valid.every, self.plan.optim.steps)
        board = find_spec("tensorboard") is not None
        return lightning.Trainer(
            max_steps=optim.steps,
            precision=optim.precision,
            val_check_interval=every,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            limit_val_batches=1,
            log_every_n_steps=LOG,
            enable_progress_bar=sys.stderr.isatty() and progress.wanted is not False,
            enable_model_summary=False,
            logger=board and TensorBoardLogger(self.out, "tensorboard", "", purge_step=self.steps or None),
            plugins=[callbacks.AtomicCheckpoints()],
            callbacks=[*watchers, callbacks.Last(self.checkpoints, max(1, every // 5), every)],
            **more,
        )

    def best(self) -> dict[str, Any] | None:
        """The checkpoint with the best weights; None without one that can be read."""
        path = self.checkpoints / callbacks.BEST
        return callbacks.read_checkpoint(path, "the last weights are kept") if path.exists() else None

    def validation(self, step: int) -> dict[str, float]:
        """What the validation after so many steps found; empty if there was none."""
        for row in self.rows:
            if row["step"] == step and any(key.startswith("valid_") for key in row):
                return {k: v for k, v in row.items() if k != "step"}
        return {}

    def provenance(self, **more: Any) -> dict[str, Any]:
        """What is kept with a model: of every run, and what else is known of this one."""
        gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
        return {
            "seed": self.plan.optim.seed,
            "steps": self.steps,
            "train_sha256": self.data_sha256,
            **more,
            "torch": torch.__version__,
            "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads{gpu}",
            "seconds_of_last_start": round(time.time() - self.began),
            "recipe": asdict(self.plan),
        }

    def write(self, save: Callable[[Path], Any]) -> Path:
        """Let `save` write the model into a folder that then gets its name; returns that."""
        with atomic_folder(self.model, self.out) as draft:
            save(draft)
        return self.model
