"""Models on the Hugging Face Hub: `hf:owner/name` and back, by way of `huggingface_hub`.

A model there is the folder that `save_pretrained` writes: `config.json`, `model.safetensors`, and
a card. Only these are fetched; none of them can run code. Nothing is downloaded unless a name
begins with `hf:`.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protok.common.checkpoint import CARD, FILES, SavesPretrained, find_model
from protok.common.extras import Extra
from protok.errors import FormatError, Unsupported

_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)


def parse(name: str) -> tuple[str, str | None]:
    """Repository and revision of `hf:owner/name@revision`.

    Raises
    ------
    FormatError
        If it is not of that form.

    Examples
    --------
    >>> parse("hf:me/protok-mine@v1")
    ('me/protok-mine', 'v1')
    """
    match = _NAME.fullmatch(name)
    if match is None or ".." in name:
        raise FormatError(f"{name!r} is no model of a hub", "write hf:owner/name@revision")
    return match[1], match[2]


def folder_of(name: str | Path, kind: str = "", others: Sequence[str] = ()) -> Path:
    """Folder of a model: downloaded for ``hf:owner/name``, else that of `find_model`.

    Raises
    ------
    FormatError
        If there is no such model.
    Unsupported
        For ``hf:``, without `huggingface_hub` or if it cannot give the model.
    """
    return download(str(name)) if str(name).startswith("hf:") else find_model(name, kind, others)


def download(name: str, **options: Any) -> Path:
    """Folder with the files of a model, from the cache or from the hub.

    Parameters
    ----------
    name
        `hf:owner/name`, with `@revision` (a branch, tag or commit) or without.
    **options
        Of `huggingface_hub.snapshot_download`, such as `cache_dir` or `local_files_only`.

    Raises
    ------
    FormatError
        If the name is not of that form.
    Unsupported
        Without `huggingface_hub`, or if it cannot give the model.
    """
    repository, revision = parse(name)
    hub = _hub()
    try:
        # Anything else in a repository is left where it is.
        wanted = [*FILES, CARD]
        return Path(hub.snapshot_download(repository, revision=revision, allow_patterns=wanted, **options))
    # Its errors are many and change: of the network, of the repository, of the cache.
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        problem = f"huggingface_hub does not give {name} ({lines[0]})"
        raise Unsupported(problem, "check the name and the network, or give a folder") from error


def upload(
    model: SavesPretrained, name: str, *, private: bool = True, card: str | Path | None = None, **options
) -> str:
    """Upload a model; returns the address of the commit.

    Parameters
    ----------
    model
        A tokenizer of structures or images, with `save_pretrained`.
    name
        `owner/name` or `hf:owner/name`; made if needed. The revision, if any, is the branch, made too.
    private
        Of a repository that is made.
    card
        File that becomes its README.md, instead of the card that the model has.
    **options
        Of `huggingface_hub.HfApi`, such as `token` or `endpoint`.

    Raises
    ------
    FormatError
        If the name is not of that form.
    Unsupported
        Without `huggingface_hub`.
    """
    repository, revision = parse(f"hf:{name.removeprefix('hf:')}")
    api = _hub().HfApi(**options)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        if card is not None:
            shutil.copyfile(card, Path(folder, CARD))
        api.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        target = {"repo_id": repository, "revision": revision}
        done = api.upload_folder(folder_path=folder, commit_message=model.codebook, **target)
    return str(done.commit_url)


def _hub() -> Any:
    with Extra("interop", "the Hugging Face Hub", otherwise="give a folder"):
        import huggingface_hub

    return huggingface_hub
