"""The contracts of any tokenizer and of what one can do besides, one function each.

Which ability a contract is of, and so which tokenizers must keep it, is in `ABILITY_CONTRACTS`;
`contracts_for` gives those of one tokenizer.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from protok.common.checkpoint import SavesPretrained
from protok.errors import CodebookMismatch, ProtokError, Unsupported
from protok.structure.backbone import Backbone, joined
from protok.testing.comparing import (
    count_changed,
    differences,
    largest,
    other_random_state,
    require_few,
    require_labels,
    require_rows,
    require_same,
)
from protok.testing.keyframes import check_keyframes
from protok.testing.requirement import require
from protok.testing.structures import (
    exclude,
    mirrored,
    moved,
    random_backbone,
    random_complex,
    random_rotation,
)
from protok.tokenizers.protocol import (
    Decodes,
    DecodesBatches,
    Embeds,
    EncodesBatches,
    HasAlphabet,
    HasCodeVectors,
    HasEnvironments,
    HasKeyframes,
    HasScores,
    HasStates,
    RanksCodes,
    Tokenizer,
)

#: What a contract is checked on; None for `default_structures`.
Structures = Sequence[Backbone] | None


def default_structures() -> list[Backbone]:
    """What the contracts are checked on if no structures are given: four random ones."""
    return [
        random_backbone(90, seed=1),
        random_backbone(140, seed=2),
        exclude(random_backbone(60, seed=3), [20, 41]),
        random_complex([50, 40], seed=4),
    ]


def check_length(tokenizer: Tokenizer, structures: Structures = None) -> None:
    """One token a residue, in -1..size-1, with the labels of the residues, for any length."""
    tiny = [random_backbone(n, seed=n) for n in (1, 2, 3, 4, 5)]
    hollow = exclude(random_backbone(12, seed=5), range(12))
    for s in [*_chosen(structures), *tiny, hollow]:
        tokens = tokenizer.encode(s)
        require(len(tokens) == len(s), f"{len(tokens)} tokens for {len(s)} residues of {s!r}")
        ids = np.asarray(tokens.ids)
        require(ids.shape == (len(s),), f"ids of {len(s)} residues have shape {ids.shape}")
        require(np.issubdtype(ids.dtype, np.integer), f"ids are {ids.dtype}, not integers")
        low, high = int(ids.min()), int(ids.max())
        require(
            -1 <= low and high < tokenizer.size,
            f"ids span {low}..{high}, allowed are -1..{tokenizer.size - 1}",
        )
        coded = int((ids[~s.mask] >= 0).sum())
        require(not coded, f"{coded} of {int((~s.mask).sum())} incomplete residues have a code")
        require_labels(tokens, s, "tokens carry another")
        require(
            tokens.size == tokenizer.size and tokens.codebook == tokenizer.codebook,
            f"tokens say {tokens.codebook}, size {tokens.size}; the tokenizer "
            f"{tokenizer.codebook}, size {tokenizer.size}",
        )


def check_embed(tokenizer: Embeds, structures: Structures = None) -> None:
    """`embed` gives one row a residue, NaN exactly where `encode` gives -1.

    Without codes (size 0) every complete residue needs a row of numbers.
    """
    for s in _chosen(structures):
        missing = ~s.mask
        if isinstance(tokenizer, Tokenizer) and tokenizer.size:
            missing = np.asarray(tokenizer.encode(s).ids) < 0
        require_rows(tokenizer.embed(s), missing, "embed")


def check_states(tokenizer: HasStates, structures: Structures = None) -> None:
    """`states` gives one row a residue, and a token of what decodes; NaN exactly where there is none."""
    for s in _chosen(structures):
        require_rows(tokenizer.states(s), ~s.mask, "states")
        if isinstance(tokenizer, Decodes) and tokenizer.size:
            tokens = tokenizer.encode(s)
            require_rows(tokenizer.states(tokens), np.asarray(tokens.ids) < 0, "states")


def check_alternatives(tokenizer: RanksCodes, structures: Structures = None) -> None:
    """`alternatives` gives different codes, nearest first, of which the first is the residue's own."""
    for s in _chosen(structures):
        nearest = tokenizer.alternatives(s, 2)
        require_rows(np.asarray(nearest.distances), np.asarray(nearest.codes)[:, 0] < 0, "alternatives")
        unsorted = int((nearest.margin < 0).sum())
        require(not unsorted, f"{unsorted} of {len(s)} second codes are nearer than the first")
        if isinstance(tokenizer, Tokenizer):
            require_same(nearest.codes[:, 0], tokenizer.encode(s).ids, "are not the nearest")
        same = int((nearest.codes[:, 0] == nearest.codes[:, 1])[nearest.codes[:, 0] >= 0].sum())
        require(not same, f"{same} of {len(s)} second codes are the first again")


def check_code_vectors(tokenizer: HasCodeVectors, structures: Structures = None) -> None:
    """`code_vectors` gives one finite vector a code, whatever is encoded meanwhile."""
    vectors = np.array(tokenizer.code_vectors())
    require(
        vectors.ndim == 2 and len(vectors) == tokenizer.size and vectors.shape[1] > 0,
        f"code_vectors of {tokenizer.size} codes have shape {vectors.shape}",
    )
    odd = int((~np.isfinite(vectors)).any(axis=1).sum())
    require(not odd, f"{odd} of {len(vectors)} code vectors are not finite")
    for s in _chosen(structures):
        tokenizer.encode(s)
    different = int((np.asarray(tokenizer.code_vectors()) != vectors).any(axis=1).sum())
    require(not different, f"{different} of {len(vectors)} code vectors changed by encoding")


def check_alphabet(tokenizer: HasAlphabet, structures: Structures = None) -> None:
    """There is a letter of its own for each code, and tokens carry them."""
    letters = tokenizer.alphabet
    require(
        len({*letters}) == len(letters) == tokenizer.size,
        f"{len(letters)} letters, {len({*letters})} of them different, for {tokenizer.size} codes",
    )
    for s in _chosen(structures):
        carried = tokenizer.encode(s).alphabet
        require(carried == letters, f"tokens carry the letters {carried!r}, not {letters!r}")


def check_invariance(tokenizer: Tokenizer, structures: Structures = None, share: float = 0.005) -> None:
    """Rotation and translation change at most `share` of the codes (rounding at cell borders)."""
    structures = _chosen(structures)
    rng = np.random.default_rng(0)
    others = [
        [moved(s, random_rotation(seed), rng.uniform(-100, 100, 3)) for seed in range(3)]
        + [moved(s, shift=(60.0, -30.0, 45.0))]
        for s in structures
    ]
    changed, total = count_changed(tokenizer, structures, others)
    require_few(changed, total, share, "rotation and translation change")


def check_mirror(tokenizer: Tokenizer, structures: Structures = None, share: float = 0.6) -> None:
    """The mirror image changes at least `share` of the codes."""
    structures = _chosen(structures)
    changed, total = count_changed(tokenizer, structures, [[mirrored(s)] for s in structures])
    require(
        changed >= share * total,
        f"the mirror image changes {changed} of {total} codes "
        f"({changed / total:.1%}, at least {share:.1%} must)",
    )


def check_batch(tokenizer: EncodesBatches, structures: Structures = None, share: float = 0.0) -> None:
    """`encode_batch` gives what `encode` gives one by one, whatever is beside it.

    At most `share` of the codes may differ, for those who batch in low precision.
    """
    structures = [*_chosen(structures), random_backbone(1, 6), random_backbone(7, 7)]
    single = [tokenizer.encode(s) for s in structures]
    order = np.random.default_rng(0).permutation(len(structures))
    changed = total = 0
    for picked in (range(len(structures)), order, order[:1]):
        batch = tokenizer.encode_batch([structures[i] for i in picked])
        require(len(batch) == len(picked), f"{len(batch)} results for a batch of {len(picked)}")
        for i, tokens in zip(picked, batch, strict=True):
            require(
                tokens.sequence == structures[i].sequence,
                f"place of {structures[i]!r} in the batch holds another structure's tokens",
            )
            different, n = differences(tokens.ids, single[i].ids)
            changed, total = changed + different, total + n
    require_few(changed, total, share, "batching changes")


def check_chains(tokenizer: Tokenizer, structures: Structures = None) -> None:
    """By default each chain is coded as if alone, whatever the order of the chains.

    Structures of one chain are passed over.
    """
    if structures is None:
        structures = [random_complex([60, 35, 45], seed=8)]
    structures = [s for s in structures if len(s.chains) > 1]
    require(bool(structures), "no structure of several chains was given to check on")
    for s in structures:
        parts = list(s.by_chain())
        alone = {p.chains[0]: tokenizer.encode(p).ids for p in parts}
        for order in (parts, parts[::-1], parts[1:] + parts[:1]):
            whole = joined(order)
            ids = np.asarray(tokenizer.encode(whole).ids)
            for chain, expected in alone.items():
                how = f"change beside the others, in the order {','.join(whole.chains)}"
                require_same(ids[whole.chain == chain], expected, f"of chain {chain} {how}")


def check_missing(
    tokenizer: Tokenizer, structures: Structures = None, radius: float = 40.0, share: float = 0.0
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
        require(len(coded) > 0, f"{s!r} has no code at all")
        for residue in coded[[0, len(coded) // 3, len(coded) // 2, -1]]:
            for atoms, words in ((slice(None), "loses all atoms"), (2, "loses its C")):
                after = np.asarray(tokenizer.encode(exclude(s, residue, atoms)).ids)
                require(len(after) == len(s), f"{len(after)} tokens for {len(s)} residues, one missing")
                require(after[residue] == -1, f"a residue that {words} has code {after[residue]}")
                distance = np.linalg.norm(s.coords[:, 1] - s.coords[residue, 1], axis=1)
                far = distance > radius
                wrong = np.flatnonzero(far & (before != after))
                beyond += int(far.sum())
                changed += len(wrong)
                if len(wrong) and distance[wrong].max() > worst[0]:
                    worst = (distance[wrong].max(), f"residue {residue} of {len(s)} {words}")
    require(beyond > 0, f"no residue lies beyond {radius} Å: give larger structures")
    require(
        changed <= share * beyond,
        f"{changed} of {beyond} codes beyond {radius} Å change with a missing residue, at most "
        f"{share:.0%} may; the farthest, {worst[0]:.1f} Å away, when {worst[1]}",
    )


def check_deterministic(tokenizer: Tokenizer, structures: Structures = None) -> None:
    """The same structure gives the same codes, whatever came before and whatever the seeds."""
    structures = _chosen(structures)
    first = [tokenizer.encode(s).ids for s in structures]
    with other_random_state():
        for i in reversed(range(len(structures))):
            require_same(tokenizer.encode(structures[i]).ids, first[i], "differ at the second time")


def check_save_load(
    tokenizer: Tokenizer, structures: Structures = None, load: Callable[[str], Tokenizer] | None = None
) -> None:
    """`save_pretrained` and loading give the same codebook, codes and, if any, reconstruction.

    `load` takes the folder; `protok.load` if not given.
    """
    if load is None:
        from protok.tokenizers.registry import load
    if not isinstance(tokenizer, SavesPretrained):
        raise AssertionError("there is no save_pretrained")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        loaded = load(folder)
        require(
            (loaded.codebook, loaded.size) == (tokenizer.codebook, tokenizer.size),
            f"saved {tokenizer.codebook}, size {tokenizer.size}; "
            f"loaded {loaded.codebook}, size {loaded.size}",
        )
        for s in _chosen(structures):
            tokens = tokenizer.encode(s)
            require_same(loaded.encode(s).ids, tokens.ids, "differ after loading")
        if isinstance(tokenizer, Decodes):
            if not isinstance(loaded, Decodes):
                raise AssertionError("the tokenizer decodes, the loaded one does not")
            # Decoding takes far longer than encoding, and one structure shows every weight.
            error = largest(loaded.decode(tokens).coords - tokenizer.decode(tokens).coords)
            require(error < 1e-4, f"reconstructions differ by up to {error:.2g} Å after loading")


def check_decode(tokenizer: Decodes, structures: Structures = None) -> None:
    """`decode` takes exactly what `encode` gives: one residue a token, and nothing else.

    A residue without a token has no coordinates; every other has N, CA, C and O, and a
    confidence in 0..100 as B-factor. Tokens of another codebook raise CodebookMismatch, ids
    out of range a ProtokError. Refusing by Unsupported what it was not made for keeps the
    contract.
    """
    for s in [*_chosen(structures), random_backbone(1, 11)]:
        tokens = tokenizer.encode(s)
        try:
            back = tokenizer.decode(tokens)
        except Unsupported:
            continue
        require(len(back) == len(s), f"{len(s)} tokens decode to {len(back)} residues")
        require_labels(back, s, "decoding changes")
        missing = np.asarray(tokens.ids) < 0
        invented = int(np.isfinite(back.coords[missing]).any(axis=(1, 2)).sum())
        require(not invented, f"{invented} of {int(missing.sum())} missing residues get atoms")
        lost = int((~np.isfinite(back.coords[~missing])).any(axis=(1, 2)).sum())
        require(not lost, f"{lost} of {int((~missing).sum())} coded residues lack atoms")
        odd = back.bfactor[~missing]
        odd = odd[~((odd >= 0) & (odd <= 100))]
        require(
            not len(odd),
            f"{len(odd)} of {int((~missing).sum())} confidences are outside 0..100, such as {odd[:1]}",
        )
        foreign = replace(tokens, codebook="another@00000000")
        with contextlib.suppress(CodebookMismatch):
            tokenizer.decode(foreign)
            raise AssertionError(f"tokens of {foreign.codebook} are decoded by {tokenizer.codebook}")
        larger = replace(tokens, ids=np.full(len(s), tokens.size), size=tokens.size + 1, alphabet="")
        with contextlib.suppress(ProtokError):
            tokenizer.decode(larger)
            raise AssertionError(f"id {tokens.size} is decoded, though ids end at {tokens.size - 1}")


def check_decode_batch(tokenizer: DecodesBatches, structures: Structures = None) -> None:
    """`decode_batch` gives what `decode` gives one by one, to a thousandth of an Å, in the same order."""
    tokens = [tokenizer.encode(s) for s in [*_chosen(structures), random_backbone(7, 7)]]
    try:
        single = [tokenizer.decode(each) for each in tokens]
    except Unsupported:
        return
    for picked in (range(len(tokens)), [len(tokens) - 1, 0], [0]):
        batch = tokenizer.decode_batch([tokens[i] for i in picked])
        require(len(batch) == len(picked), f"{len(batch)} results for a batch of {len(picked)}")
        for i, back in zip(picked, batch, strict=True):
            require_labels(back, single[i], "decoding in a batch changes")
            same = np.allclose(back.coords, single[i].coords, rtol=0, atol=1e-3, equal_nan=True)
            require(same, f"place of {tokens[i]!r} in the batch holds other coordinates than by itself")


def check_environments(tokenizer: HasEnvironments, structures: Structures = None) -> None:
    """Environment letters are those of `environment` alone, and change nothing of what they stand beside."""
    alone = tokenizer.environment
    for s in _chosen(structures):
        bare, whole = tokenizer.encode(s, environments=False), tokenizer.encode(s)
        require(bare.environment is None, "environment letters are given where none are asked for")
        require_same(whole.ids, bare.ids, "differ with environment letters beside them")
        if alone is None:
            require(whole.environment is None, "there are environment letters of no tokenizer")
            continue
        around = whole.environment
        if around is None:
            raise AssertionError(f"no environment letters of {tokenizer.codebook}")
        kind = (around.codebook, around.size)
        require(kind == (alone.codebook, alone.size), f"letters of {kind}, not of {alone.codebook}")
        require_same(around.ids, alone.encode(s).ids, "of environments differ from those alone")


def check_scores(tokenizer: HasScores, structures: Structures = None) -> None:
    """`scores`, if there are any, are a symmetric table of whole numbers that prefers equal codes."""
    scores = tokenizer.scores
    if scores is None:
        return
    size = tokenizer.size
    require(scores.shape == (size, size), f"scores of {size} codes have shape {scores.shape}")
    require(np.issubdtype(scores.dtype, np.integer), f"scores are {scores.dtype}, not integers")
    odd = int((scores != scores.T).sum())
    require(not odd, f"{odd} scores are not those of the same codes the other way round")
    require(np.diag(scores).mean() > scores.mean(), "equal codes score no more than any two")


#: Contracts of any tokenizer.
TOKENIZER_CONTRACTS = (
    check_length,
    check_invariance,
    check_mirror,
    check_chains,
    check_missing,
    check_deterministic,
)
#: Further contracts, by the protocol of the ability that each is of.
ABILITY_CONTRACTS: dict[type, Callable[..., None]] = {
    EncodesBatches: check_batch,
    Decodes: check_decode,
    DecodesBatches: check_decode_batch,
    HasKeyframes: check_keyframes,
    HasEnvironments: check_environments,
    HasCodeVectors: check_code_vectors,
    HasAlphabet: check_alphabet,
    HasScores: check_scores,
    Embeds: check_embed,
    HasStates: check_states,
    RanksCodes: check_alternatives,
    SavesPretrained: check_save_load,
}


def contracts_for(tokenizer: Tokenizer) -> tuple[Callable[..., None], ...]:
    """What a tokenizer must keep: the contracts of all, and those of what it can do."""
    able = (check for ability, check in ABILITY_CONTRACTS.items() if isinstance(tokenizer, ability))
    return (*TOKENIZER_CONTRACTS, *able)


def _chosen(structures: Structures) -> list[Backbone]:
    return default_structures() if structures is None else list(structures)
