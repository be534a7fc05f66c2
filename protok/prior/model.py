"""The prior itself: a transformer of Hugging Face `transformers` over the rows of a layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protok.common.checkpoint import DeviceMixin, load_network, read_model, save_model
from protok.common.extras import Extra
from protok.common.hub import folder_of
from protok.common.settings import from_dict
from protok.prior.config import PriorConfig
from protok.prior.layout import Layout, Row
from protok.tokens.layouts import BOS, EOS, PAD

KIND = "prior"
#: To the embedding, which is saved.
TIED = ("lm_head.weight",)
#: Of targets that do not count.
IGNORED = -100


def transformers() -> Any:
    """The module ``transformers``.

    Raises
    ------
    MissingExtra
        If it is not installed.
    """
    with Extra("prior", "a prior"):
        return import_module("transformers")


def build_network(config: PriorConfig, layout: Layout) -> nn.Module:
    """A Llama or GPT-2 with random weights, of the vocabulary of a layout."""
    tools = transformers()
    shared = {
        "vocab_size": len(layout),
        "tie_word_embeddings": True,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }
    if config.architecture == "gpt2":
        size = {"n_embd": config.width, "n_layer": config.layers, "n_head": config.heads}
        dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout)
        form = tools.GPT2Config(n_positions=layout.context, **size, **dropout, **shared)
        return tools.GPT2LMHeadModel(form)
    form = tools.LlamaConfig(
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        # Three matrices of this width have the parameters of two of four times the width.
        intermediate_size=-(-8 * config.width // 3 // 32) * 32,
        max_position_embeddings=layout.context,
        attention_dropout=config.dropout,
        **shared,
    )
    return tools.LlamaForCausalLM(form)


def stack(rows: Sequence[Row], multiple: int = 1) -> dict[str, Tensor]:
    """A batch of rows: ids, positions, mask and targets, (b, n).

    They are filled up on the right to the longest, and further to a multiple.
    """
    n = max(len(row.ids) for row in rows) - 1
    n += -n % multiple
    ids, positions = np.full((len(rows), n), PAD), np.zeros((len(rows), n), int)
    mask, targets = np.zeros((len(rows), n), int), np.full((len(rows), n), IGNORED)
    for i, row in enumerate(rows):
        k = len(row.ids) - 1
        ids[i, :k], positions[i, :k], mask[i, :k] = row.ids[:-1], row.positions[:-1], 1
        targets[i, :k] = np.where(row.scored[1:], row.ids[1:], IGNORED)
    parts = {"ids": ids, "positions": positions, "mask": mask, "targets": targets}
    return {key: torch.from_numpy(value) for key, value in parts.items()}


class Prior(DeviceMixin):
    """A transformer over codes, in eval mode with random weights, and how codes lie in its rows.

    Parameters
    ----------
    config, layout
        Shape of the transformer, and its vocabulary.
    provenance
        What is known of the weights' origin; kept in the saved configuration.
    network
        What `build_network` has made of them, with other weights.
    """

    def __init__(
        self,
        config: PriorConfig,
        layout: Layout,
        *,
        provenance: Mapping[str, Any] | None = None,
        network: nn.Module | None = None,
    ):
        self.config, self.layout = config, layout
        self.network = network or build_network(config, layout).eval()
        self.provenance = dict(provenance or {})

    def __repr__(self) -> str:
        what = " x ".join(map(str, self.layout.grid)) or f"up to {self.layout.most}"
        n = sum(p.numel() for p in self.network.parameters())
        return (
            f"Prior({self.config.name}, {self.config.architecture}, {n:,} parameters, {what} "
            f"codes of {self.layout.codebook}, condition {self.layout.condition})"
        )

    def losses(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood in nats of the targets of `stack`, (b, n), and which of them count."""
        # Without a mask transformers takes positions that start again for packed sequences.
        logits = self.network(
            input_ids=batch["ids"],
            position_ids=batch["positions"],
            attention_mask=batch["mask"],
            use_cache=False,
        ).logits
        targets = batch["targets"]
        loss = F.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return loss.reshape(targets.shape), targets != IGNORED

    @torch.no_grad()
    def bits_each(self, rows: Sequence[Row], batch: int = 8) -> list[np.ndarray]:
        """Bits of each id of rows, (n,): log2 of what it is as good as choosing from; NaN if not scored."""
        each = []
        for start in range(0, len(rows), batch):
            parts = {k: v.to(self.device) for k, v in stack(rows[start : start + batch]).items()}
            loss, scored = self.losses(parts)
            bits = torch.where(scored, loss / np.log(2), torch.nan).cpu().numpy()
            mine = zip(bits, rows[start : start + batch], strict=True)
            each += [np.append(np.nan, own[: len(row.ids) - 1]) for own, row in mine]
        return each

    def bits(self, rows: Sequence[Row], batch: int = 8) -> np.ndarray:
        """Mean bits for a scored id of each row."""
        return np.array([np.nanmean(own) for own in self.bits_each(rows, batch)])

    def round(self) -> None:
        """Round the weights to what float16 holds: they are saved in it then, as nothing is lost."""
        with torch.no_grad():
            for weight in self.network.parameters():
                weight.copy_(weight.half())

    def save_pretrained(self, folder: str | Path, *, provenance: Mapping[str, Any] | None = None) -> Path:
        """Write ``config.json`` and ``model.safetensors``, which need nothing else, and the tokenizer.

        `transformers` loads the folder too, by ``AutoModelForCausalLM`` and ``AutoTokenizer``, and what it
        saves `from_pretrained` loads.
        """
        saved = {
            **cast(Any, self.network).config.to_dict(),
            "architectures": [type(self.network).__name__],
            "kind": KIND,
            # What transformers brings weights to, however they are saved.
            "dtype": "float32",
            "codebook": self.layout.codebook,
            "model": asdict(self.config),
            "layout": asdict(self.layout),
            "provenance": {**self.provenance, **(provenance or {})},
        }
        exact = all(torch.equal(p, p.half().float()) for p in self.network.parameters())
        half = ("model.", "transformer.") if exact else ()
        folder = save_model(folder, self.network, saved, half=half, exclude=TIED)
        self.layout.vocabulary.save(folder, self.layout.label_names)
        return folder

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Prior:
        """Load a prior.

        Parameters
        ----------
        name
            Of one that protok ships, a folder, or ``hf:owner/name``, as for `protok.load`.

        Raises
        ------
        FormatError
            If there is none, or the folder is not one.
        """
        folder = folder_of(name, KIND)

        def parse(saved: dict[str, Any], _: Any) -> tuple[PriorConfig, Layout, Any]:
            config = from_dict(PriorConfig, saved["model"], str(folder))
            layout = from_dict(Layout, saved["layout"], str(folder))
            layout.check_sizes()
            return config, layout, saved.get("provenance")

        (config, layout, provenance), state = read_model(folder, "a prior", parse, KIND)
        network = load_network(lambda: build_network(config, layout), state, folder, exclude=TIED)
        return cls(config, layout, provenance=provenance, network=network)
