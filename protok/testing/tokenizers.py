"""The contracts of any tokenizer, one function each."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from protok.errors import CodebookMismatch, ProtokError, Unsupported
from protok.structure.backbone import Backbone
from protok.testing.structures import (
    joined,
    mirrored,
    moved,
    random_backbone,
    random_complex,
    random_rotation,
    without,
)


def default_structures() -> list[Backbone]:
    """What the contracts are checked on if no structures are given: four random ones."""
    return [
        random_backbone(90, seed=1),
        random_backbone(140, seed=2),
        without(random_backbone(60, seed=3), [20, 41]),
        random_complex([50, 40], seed=4),
    ]


def check_length(tokenizer, structures: Sequence[Backbone] | None = None) -> None:
    """One token a residue, in -1..size-1, with the labels of the residues, for any length."""
    tiny = [random_backbone(n, seed=n) for n in (1, 2, 3, 4, 5)]
    hollow = without(random_backbone(12, seed=5), range(12))
    for s in [*_given(structures), *tiny, hollow]:
        tokens = tokenizer.encode(s)
        _require(len(tokens) == len(s), f"{len(tokens)} tokens for {len(s)} residues of {s!r}")
        ids = np.asarray(tokens.ids)
        _require(ids.shape == (len(s),), f"ids of {len(s)} residues have shape {ids.shape}")
        _require(np.issubdtype(ids.dtype, np.integer), f"ids are {ids.dtype}, not integers")
        low, high = int(ids.min()), int(ids.max())
        _require(
            -1 <= low and high < tokenizer.size,
            f"ids span {low}..{high}, allowed are -1..{tokenizer.size - 1}",
        )
        coded = int((ids[~s.mask] >= 0).sum())
        _require(not coded, f"{coded} of {int((~s.mask).sum())} incomplete residues have a code")
        _require(tokens.sequence == s.sequence, "tokens carry another sequence than the structure")
        for key in ("chain", "index", "icode"):
            same = np.array_equal(getattr(tokens, key), getattr(s, key))
            _require(same, f"tokens carry another {key} than the structure")
        _require(
            tokens.size == tokenizer.size and tokens.codebook == tokenizer.codebook,
            f"tokens say {tokens.codebook}, size {tokens.size}; the tokenizer "
            f"{tokenizer.codebook}, size {tokenizer.size}",
        )


def check_embed(tokenizer, structures: Sequence[Backbone] | None = None) -> None:
    """`embed` gives one row a residue, NaN exactly where `encode` gives -1."""
    for s in _given(structures):
        missing = np.asarray(tokenizer.encode(s).ids) < 0
        for quantized in (False, True):
            z = tokenizer.embed(s, quantized=quantized)
            _require(
                z.ndim == 2 and len(z) == len(s),
                f"embed(quantized={quantized}) of {len(s)} residues has shape {z.shape}",
            )
            wrong = int((np.isnan(z).any(axis=1) != missing).sum())
            _require(not wrong, f"{wrong} of {len(s)} rows are NaN with a code, or not without")


def check_invariance(tokenizer, structures: Sequence[Backbone] | None = None, share: float = 0.005) -> None:
    """Rotation and translation change at most `share` of the codes (rounding at cell borders)."""
    structures = _given(structures)
    rng = np.random.default_rng(0)
    pairs = [
        (s, moved(s, random_rotation(seed), rng.uniform(-100, 100, 3)))
        for s in structures
        for seed in range(3)
    ]
    pairs += [(s, moved(s, shift=(60.0, -30.0, 45.0))) for s in structures]
    changed, total = _changed(tokenizer, pairs)
    _require(
        changed <= share * total,
        f"rotation and translation change {changed} of {total} codes "
        f"({changed / total:.2%}, allowed are {share:.2%})",
    )


def check_mirror(tokenizer, structures: Sequence[Backbone] | None = None, share: float = 0.6) -> None:
    """The mirror image changes at least `share` of the codes."""
    changed, total = _changed(tokenizer, [(s, mirrored(s)) for s in _given(structures)])
    _require(
        changed >= share * total,
        f"the mirror image changes {changed} of {total} codes "
        f"({changed / total:.1%}, at least {share:.1%} must)",
    )


def check_batch(tokenizer, structures: Sequence[Backbone] | None = None, share: float = 0.0) -> None:
    """`encode_batch` gives what `encode` gives one by one, whatever is beside it.

    At most `share` of the codes may differ, for those who batch in low precision.
    """
    structures = [*_given(structures), random_backbone(1, 6), random_backbone(7, 7)]
    single = [tokenizer.encode(s) for s in structures]
    order = np.random.default_rng(0).permutation(len(structures))
    changed = total = 0
    for picked in (range(len(structures)), order, order[:1]):
        batch = tokenizer.encode_batch([structures[i] for i in picked])
        _require(len(batch) == len(picked), f"{len(batch)} results for a batch of {len(picked)}")
        for i, tokens in zip(picked, batch, strict=True):
            _require(
                tokens.sequence == structures[i].sequence,
                f"place of {structures[i]!r} in the batch holds another structure's tokens",
            )
            different, n = _differences(tokens.ids, single[i].ids)
            changed, total = changed + different, total + n
    _require(
        changed <= share * total,
        f"batching changes {changed} of {total} codes ({changed / total:.2%}, allowed are {share:.2%})",
    )


def check_chains(tokenizer, structures: Sequence[Backbone] | None = None) -> None:
    """By default each chain is coded as if alone, whatever the order of the chains.

    Structures of one chain are passed over.
    """
    if structures is None:
        structures = [random_complex([60, 35, 45], seed=8)]
    structures = [s for s in structures if len(s.chains) > 1]
    _require(bool(structures), "no structure of several chains was given to check on")
    for s in structures:
        parts = list(s.split())
        alone = {p.chains[0]: tokenizer.encode(p).ids for p in parts}
        for order in (parts, parts[::-1], parts[1:] + parts[:1]):
            whole = joined(order)
            ids = np.asarray(tokenizer.encode(whole).ids)
            for chain, expected in alone.items():
                different, n = _differences(ids[whole.chain == chain], expected)
                _require(
                    not different,
                    f"{different} of {n} codes of chain {chain} change beside the others, "
                    f"in the order {','.join(whole.chains)}",
                )


def check_missing(
    tokenizer, structures: Sequence[Backbone] | None = None, radius: float = 40.0, share: float = 0.0
) -> None:
    """A residue that goes missing gets -1 and changes codes only within `radius` Å (CA to CA).

    Where codes say a residue's place in the whole chain, which every residue helps to define,
    at most a `share` of the codes beyond `radius` may change.
    """
    if structures is None:
        structures = [random_backbone(220, seed=9), random_backbone(260, seed=10)]
    beyond = changed = 0
    worst = (0.0, "")
    for s in structures:
        before = np.asarray(tokenizer.encode(s).ids)
        coded = np.flatnonzero(before >= 0)
        _require(len(coded) > 0, f"{s!r} has no code at all")
        for residue in coded[[0, len(coded) // 3, len(coded) // 2, -1]]:
            for atoms, words in ((slice(None), "loses all atoms"), (2, "loses its C")):
                after = np.asarray(tokenizer.encode(without(s, residue, atoms)).ids)
                _require(len(after) == len(s), f"{len(after)} tokens for {len(s)} residues, one missing")
                _require(after[residue] == -1, f"a residue that {words} has code {after[residue]}")
                distance = np.linalg.norm(s.coords[:, 1] - s.coords[residue, 1], axis=1)
                far = distance > radius
                wrong = np.flatnonzero(far & (before != after))
                beyond += int(far.sum())
                changed += len(wrong)
                if len(wrong) and distance[wrong].max() > worst[0]:
                    worst = (distance[wrong].max(), f"residue {residue} of {len(s)} {words}")
    _require(beyond > 0, f"no residue lies beyond {radius} Å: give larger structures")
    _require(
        changed <= share * beyond,
        f"{changed} of {beyond} codes beyond {radius} Å change with a missing residue, at most "
        f"{share:.0%} may; the farthest, {worst[0]:.1f} Å away, when {worst[1]}",
    )


def check_deterministic(tokenizer, structures: Sequence[Backbone] | None = None) -> None:
    """The same structure gives the same codes, whatever came before and whatever the seeds."""
    structures = _given(structures)
    first = [tokenizer.encode(s).ids for s in structures]
    with _other_random_state():
        for i in reversed(range(len(structures))):
            different, n = _differences(tokenizer.encode(structures[i]).ids, first[i])
            _require(not different, f"{different} of {n} codes differ at the second time")


def check_save_load(
    tokenizer, structures: Sequence[Backbone] | None = None, load: Callable[[str], object] | None = None
) -> None:
    """`save_pretrained` and loading give the same codebook, codes and reconstruction.

    `load` takes the folder; `protok.load` if not given.
    """
    if load is None:
        from protok.tokenizers.registry import load
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        loaded = load(folder)
        _require(
            (loaded.codebook, loaded.size) == (tokenizer.codebook, tokenizer.size),
            f"saved {tokenizer.codebook}, size {tokenizer.size}; "
            f"loaded {loaded.codebook}, size {loaded.size}",
        )
        for s in _given(structures):
            tokens = tokenizer.encode(s)
            different, n = _differences(loaded.encode(s).ids, tokens.ids)
            _require(not different, f"{different} of {n} codes differ after loading")
            error = _largest(loaded.decode(tokens).coords - tokenizer.decode(tokens).coords)
            _require(error < 1e-4, f"reconstructions differ by up to {error:.2g} Å after loading")


def check_decode(tokenizer, structures: Sequence[Backbone] | None = None) -> None:
    """`decode` takes exactly what `encode` gives: one residue a token, and nothing else.

    A residue without a token has no coordinates; every other has N, CA, C and O, and a
    confidence in 0..100 as B-factor. Tokens of another codebook raise CodebookMismatch, ids
    out of range a ProtokError. A tokenizer without a decoder keeps the contract if it raises
    Unsupported.
    """
    for s in [*_given(structures), random_backbone(1, 11)]:
        tokens = tokenizer.encode(s)
        try:
            back = tokenizer.decode(tokens)
        except Unsupported:
            continue
        _require(len(back) == len(s), f"{len(s)} tokens decode to {len(back)} residues")
        _require(back.sequence == s.sequence, "decoding changes the sequence")
        for key in ("chain", "index", "icode"):
            same = np.array_equal(getattr(back, key), getattr(s, key))
            _require(same, f"decoding changes {key}")
        missing = np.asarray(tokens.ids) < 0
        invented = int(np.isfinite(back.coords[missing]).any(axis=(1, 2)).sum())
        _require(not invented, f"{invented} of {int(missing.sum())} missing residues get atoms")
        lost = int((~np.isfinite(back.coords[~missing])).any(axis=(1, 2)).sum())
        _require(not lost, f"{lost} of {int((~missing).sum())} coded residues lack atoms")
        odd = back.bfactor[~missing]
        odd = odd[~((odd >= 0) & (odd <= 100))]
        _require(
            not len(odd),
            f"{len(odd)} of {int((~missing).sum())} confidences are outside 0..100, such as {odd[:1]}",
        )
        foreign = replace(tokens, codebook="another@00000000")
        _require(
            _refused(tokenizer.decode, foreign, CodebookMismatch),
            f"tokens of {foreign.codebook} are decoded by {tokenizer.codebook}",
        )
        larger = replace(tokens, ids=np.full(len(s), tokens.size), size=tokens.size + 1, alphabet="")
        _require(
            _refused(tokenizer.decode, larger, ProtokError),
            f"id {tokens.size} is decoded, though ids end at {tokens.size - 1}",
        )


#: Contracts of any tokenizer. Those that need more of it are in LEARNED_CONTRACTS.
TOKENIZER_CONTRACTS = (
    check_length,
    check_embed,
    check_invariance,
    check_mirror,
    check_chains,
    check_missing,
    check_deterministic,
    check_decode,
)
#: Further contracts of tokenizers with `encode_batch`, `save_pretrained` and `decode`.
LEARNED_CONTRACTS = (check_batch, check_save_load)


def _given(structures: Sequence[Backbone] | None) -> list[Backbone]:
    return default_structures() if structures is None else list(structures)


def _require(holds: bool, otherwise: str) -> None:
    # Not an assert statement: those vanish under python -O.
    if not holds:
        raise AssertionError(otherwise)


def _differences(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """How many ids differ, and how many are coded in either."""
    a, b = np.asarray(a), np.asarray(b)
    _require(a.shape == b.shape, f"{a.shape} ids where {b.shape} were expected")
    return int((a != b).sum()), int(((a >= 0) | (b >= 0)).sum())


def _changed(tokenizer, pairs: list[tuple[Backbone, Backbone]]) -> tuple[int, int]:
    """Sum of `_differences` over the encodings of pairs of structures."""
    counts = [_differences(tokenizer.encode(a).ids, tokenizer.encode(b).ids) for a, b in pairs]
    changed, total = (sum(column) for column in zip(*counts, strict=True))
    _require(total > 0, "none of the structures has any code")
    return changed, total


def _largest(difference: np.ndarray) -> float:
    return float(np.nanmax(np.abs(difference), initial=0.0))


def _refused(function: Callable, argument: object, error: type[Exception]) -> bool:
    try:
        function(argument)
    except error:
        return True
    return False


@contextlib.contextmanager
def _other_random_state() -> Iterator[None]:
    """Other states of the global random generators, restored afterwards."""
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(987)
    np.random.seed(987)
    torch.manual_seed(987)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
