"""The contracts themselves: a sound toy keeps them all, and each can be broken."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from protok import testing
from protok.errors import CodebookMismatch, FormatError, Unsupported
from protok.quantize import VQ
from protok.structure import geometry
from protok.structure.backbone import Backbone
from protok.structure.descriptors import secondary_structure
from protok.tokenizers import protocol
from protok.tokenizers.protocol import (
    Decodes,
    HasEnvironments,
    HasKeyframes,
    HasScores,
    Tokenizer,
    decoding,
    encode_each,
)
from protok.tokenizers.shapes import ShapeTokenizer
from protok.tokenizers.soft import Alternatives
from protok.tokens.tokens import Tokens
from tests.helpers.models import BOTH, small

# Random structures --------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 40, 150])
def test_random_backbone_has_ideal_geometry(n):
    backbone = testing.random_backbone(n, seed=5)
    assert len(backbone) == n and np.isfinite(backbone.coords).all()
    atoms = backbone.coords.astype(float)
    lengths = np.linalg.norm(np.diff(atoms[:, :3], axis=1), axis=-1)
    ideal = np.linalg.norm(np.diff(np.array(geometry.IDEAL_RESIDUE), axis=0), axis=-1)
    np.testing.assert_allclose(lengths, np.tile(ideal, (n, 1)), atol=1e-4)
    carbonyl = np.linalg.norm(atoms[:, 3] - atoms[:, 2], axis=-1)
    np.testing.assert_allclose(carbonyl, geometry.C_O, atol=1e-4)
    peptide = np.linalg.norm(atoms[1:, 0] - atoms[:-1, 2], axis=-1)
    np.testing.assert_allclose(peptide, geometry.C_N, atol=1e-4)
    trace = np.linalg.norm(np.diff(atoms[:, 1], axis=0), axis=-1)
    np.testing.assert_allclose(trace, 3.8, atol=0.05)  # trans
    assert np.abs(atoms[:, 1].mean(axis=0)).max() < 1e-3


def test_random_backbone_has_the_natural_hand():
    backbone = testing.random_backbone(300, seed=6)
    coords = torch.from_numpy(backbone.coords).double()
    angles, defined = geometry.torsions(coords, geometry.linked(coords, torch.ones(300).bool()))
    assert (angles[1:, 0] < 0).double().mean() > 0.9
    elements = secondary_structure(backbone)
    assert (elements == "a").mean() > 0.2 and (elements == "b").mean() > 0.05
    # Along a right-handed helix the CA trace turns by +50 degrees a residue.
    for structure, low, high in ((backbone, 0.25, 1), (testing.mirrored(backbone), 0, 0.1)):
        ca = torch.from_numpy(structure.coords[:, 1]).double()
        turn = torch.rad2deg(geometry.dihedral(ca[:-3], ca[1:-2], ca[2:-1], ca[3:]))
        assert low <= ((turn > 30) & (turn < 70)).double().mean() <= high


def test_random_backbone_rarely_overlaps_and_is_reproducible():
    close = 0
    for seed in range(8):
        ca = testing.random_backbone(120, seed).coords[:, 1]
        distance = np.linalg.norm(ca[:, None] - ca[None], axis=-1)
        close += int((distance[np.triu_indices(120, 3)] < 4.0).sum())
    assert close <= 4
    backbone, again = testing.random_backbone(50, 7), testing.random_backbone(50, 7)
    assert np.array_equal(backbone.coords, again.coords) and backbone.sequence == again.sequence
    assert np.array_equal(backbone.bfactor, again.bfactor) and np.isfinite(backbone.bfactor).all()
    assert not np.allclose(backbone.coords, testing.random_backbone(50, 8).coords)
    with pytest.raises(ValueError, match="0 residues"):
        testing.random_backbone(0)


def test_random_complex_touches():
    whole = testing.random_complex([30, 20, 25], seed=9)
    assert whole.chains == ["A", "B", "C"] and len(whole) == 75
    for chain in ("B", "C"):
        here = whole.coords[whole.chain == chain, 1]
        before = whole.coords[whole.chain < chain, 1]
        nearest = np.linalg.norm(here[:, None] - before[None], axis=-1).min()
        assert 4.9 < nearest < 6.0


def test_moves():
    backbone = testing.random_backbone(20, 10)
    rotation = testing.random_rotation(11)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    turned = testing.moved(backbone, rotation, (1.0, 2.0, 3.0))
    expected = backbone.coords @ rotation.T + [1, 2, 3]
    np.testing.assert_allclose(turned.coords, expected, atol=1e-4)
    twice = testing.mirrored(testing.mirrored(backbone))
    assert np.array_equal(twice.coords, backbone.coords)
    hollow = testing.exclude(backbone, [3, 5], atoms=[1, 2])
    assert np.argwhere(np.isnan(hollow.coords).all(axis=2)).tolist() == [[3, 1], [3, 2], [5, 1], [5, 2]]
    assert np.isfinite(backbone.coords).all()


def test_random_rotations_cover_all_directions():
    images = np.array([testing.random_rotation(seed)[:, 0] for seed in range(400)])
    assert np.abs(images.mean(axis=0)).max() < 0.15
    np.testing.assert_allclose((images**2).mean(axis=0), 1 / 3, atol=0.06)


# A toy tokenizer and its broken kin ---------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def made_once():
    """Most contracts ask for the same structures, which take longer to make than to check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("protok.testing.tokenizers.default_structures", cache(testing.default_structures))
        yield


class Toy:
    """Bins of phi and psi, 8 by 8, each chain alone; decodes to a straight line."""

    name, size, codebook = "toy", 64, "toy@00c0ffee"
    alphabet = "".join(map(chr, range(64, 128)))
    batch_residues = 1000
    shift = 0.1

    def encode(self, structure):
        ids = np.full(len(structure), -1)
        for chain in structure.chains:
            rows = structure.chain == chain
            ids[rows] = self.ids(structure[rows])
        return Tokens.like(structure, ids, self.size, self.codebook, self.alphabet)

    def ids(self, part: Backbone):
        coords, mask = torch.from_numpy(part.coords).double(), torch.from_numpy(part.mask)
        angles, _ = geometry.torsions(coords, geometry.linked(coords, mask))
        bins = ((angles[:, :2].numpy() + np.pi + self.shift) / (2 * np.pi) * 8).astype(int) % 8
        return np.where(part.mask, bins @ [8, 1], -1)

    def embed(self, structure):
        return self.states(self.encode(structure))

    def states(self, structure):
        ids = (structure if isinstance(structure, Tokens) else self.encode(structure)).ids
        return np.where(ids[:, None] < 0, np.nan, np.stack([ids // 8, ids % 8], axis=1))

    def alternatives(self, structure, k=4):
        vectors, own = self.code_vectors(), self.embed(structure)
        away = np.linalg.norm(own[:, None] - vectors, axis=-1)
        codes = np.where(np.isnan(away), -1, np.argsort(away, axis=1))[:, :k]
        return Alternatives(codes, np.sort(away, axis=1)[:, :k])

    def code_vectors(self):
        return np.stack([np.arange(64) // 8, np.arange(64) % 8], axis=1).astype(np.float32)

    def encode_batch(self, structures):
        return [self.encode(s) for s in structures]

    def decode_batch(self, tokens):
        return [self.decode(each) for each in tokens]

    def decode(self, tokens):
        if tokens.codebook != self.codebook:
            raise CodebookMismatch(f"tokens are of {tokens.codebook}", "use the other")
        if (tokens.ids >= self.size).any():
            raise FormatError("ids are too large")
        coords = np.arange(len(tokens) * 12).reshape(-1, 4, 3) + np.zeros((1, 1, 1), np.float32)
        coords[tokens.ids < 0] = np.nan
        bfactor = np.where(tokens.ids < 0, np.nan, 50).astype(np.float32)
        return Backbone(coords, tokens.sequence, tokens.chain, tokens.index, tokens.icode, bfactor)

    def save_pretrained(self, folder):
        Path(folder, "config.json").write_text(json.dumps({"shift": self.shift}))
        return Path(folder)

    @classmethod
    def load(cls, folder):
        toy = cls()
        toy.shift = json.loads(Path(folder, "config.json").read_text())["shift"]
        return toy


@pytest.mark.parametrize("contract", testing.contracts_for(Toy()))
def test_a_sound_tokenizer_keeps(contract):
    contract(Toy(), **({"load": Toy.load} if contract is testing.check_save_load else {}))


class Plain:
    """No more than what is needed."""

    name, size, codebook = "plain", 1, "plain@1"

    def encode(self, structure):
        return Tokens.like(structure, np.where(structure.mask, 0, -1), 1, self.codebook)


def test_contracts_are_those_of_what_a_tokenizer_can_do():
    others = (HasKeyframes, HasEnvironments, HasScores)
    able = [check for ability, check in testing.ABILITY_CONTRACTS.items() if ability not in others]
    assert testing.contracts_for(Toy()) == (*testing.TOKENIZER_CONTRACTS, *able)
    assert testing.contracts_for(Plain()) == testing.TOKENIZER_CONTRACTS
    assert isinstance(Plain(), Tokenizer) and not isinstance(Plain(), Decodes)
    with pytest.raises(Unsupported, match="plain is a tokenizer without a decoder"):
        decoding(Plain())
    abilities = {ability.__name__ for ability in testing.ABILITY_CONTRACTS}
    # What is left says something of a tokenizer, and no code follows from it.
    descriptive = {"Fingerprinted", "HasEncoder", "HasNetwork", "LooksUp", "Movable", "Named", "Tokenizer"}
    kinds = [kind for kind in vars(protocol).values() if isinstance(kind, type)]
    written = {kind.__name__ for kind in kinds if kind.__module__ == protocol.__name__}
    assert abilities | descriptive == written | {"SavesPretrained"}


def test_structures_are_encoded_together_where_that_can_be():
    structures = [testing.random_backbone(n, n) for n in (5, 9)]
    for tokenizer in (Toy(), Plain()):
        together = encode_each(tokenizer, structures)
        for tokens, structure in zip(together, structures, strict=True):
            assert np.array_equal(tokens.ids, tokenizer.encode(structure).ids)


def test_contracts_take_structures():
    seen = []

    class Watched(Toy):
        def encode(self, structure):
            seen.append(structure)
            return super().encode(structure)

    structures = [testing.random_backbone(20, 12)]
    testing.check_deterministic(Watched(), structures)
    assert seen and all(s is structures[0] for s in seen)


def broken(contract, message, **kwargs):
    """Decorate a broken tokenizer with the contract that must catch it, and the words."""

    def keep(cls):
        BROKEN.append(pytest.param(cls, contract, message, kwargs, id=cls.__name__))
        return cls

    return keep


BROKEN: list = []


@broken(testing.check_length, r"\d+ tokens for \d+ residues")
class DropsResidues(Toy):
    def encode(self, structure):
        return super().encode(structure[structure.mask])


@broken(testing.check_length, r"\d+ of \d+ incomplete residues have a code")
class CodesIncomplete(Toy):
    def ids(self, part):
        return np.maximum(super().ids(part), 0)


@broken(testing.check_length, "another index")
class Renumbers(Toy):
    def encode(self, structure):
        tokens = super().encode(structure)
        return replace(tokens, index=np.arange(len(tokens)))


@broken(testing.check_length, r"ids span \d+..64, allowed are -1..63")
class CountsFromOne(Toy):
    def encode(self, structure):
        tokens = super().encode(structure)
        return Short(tokens, np.where(tokens.ids < 0, -1, 64))


class Short(SimpleNamespace):
    """Tokens with other ids that check nothing."""

    def __init__(self, tokens, ids):
        super().__init__(**vars(tokens) | {"ids": ids})

    def __len__(self):
        return len(self.ids)


@broken(testing.check_length, "integers")
class FloatIds(Toy):
    def encode(self, structure):
        tokens = super().encode(structure)
        return Short(tokens, tokens.ids.astype(float))


@broken(testing.check_length, "tokens say other@1, size 64; the tokenizer toy@00c0ffee, size 64")
class ForgetsItsCodebook(Toy):
    def encode(self, structure):
        return replace(super().encode(structure), codebook="other@1")


@broken(testing.check_embed, r"\d+ of \d+ rows of embed are NaN with a code, or not without")
class EmbedsMissing(Toy):
    def embed(self, structure):
        return np.nan_to_num(super().embed(structure))


@broken(testing.check_embed, r"embed of \d+ residues has shape")
class EmbedsComplete(Toy):
    def embed(self, structure):
        return super().embed(structure)[structure.mask]


@broken(testing.check_embed, r"\d+ of \d+ rows of embed are NaN")
class EmbedsOnlyAndMissing(Toy):
    size = 0

    def embed(self, structure):
        return structure.coords[:, 1] * np.where(np.arange(len(structure)) == 3, np.nan, 1)[:, None]


@broken(testing.check_states, r"\d+ of \d+ rows of states are NaN with a code, or not without")
class StatesOfMissingTokens(Toy):
    def states(self, structure):
        z = super().states(structure)
        return np.nan_to_num(z) if isinstance(structure, Tokens) else z


@broken(testing.check_alternatives, r"\d+ of \d+ codes are not the nearest")
class SecondFirst(Toy):
    def alternatives(self, structure, k=4):
        nearest = super().alternatives(structure, k)
        return Alternatives(nearest.codes[:, ::-1], nearest.distances)


@broken(testing.check_alternatives, r"\d+ of \d+ second codes are nearer than the first")
class FarthestFirst(Toy):
    def alternatives(self, structure, k=4):
        nearest = super().alternatives(structure, k)
        return Alternatives(nearest.codes, nearest.distances[:, ::-1])


@broken(testing.check_alternatives, r"\d+ of \d+ second codes are the first again")
class RepeatsTheFirst(Toy):
    def alternatives(self, structure, k=4):
        nearest = super().alternatives(structure, k)
        return Alternatives(nearest.codes[:, [0, 0]], nearest.distances)


@broken(testing.check_code_vectors, r"code_vectors of 64 codes have shape \(63, 2\)")
class LacksAVector(Toy):
    def code_vectors(self):
        return super().code_vectors()[1:]


@broken(testing.check_code_vectors, "1 of 64 code vectors are not finite")
class HasAnInfiniteVector(Toy):
    def code_vectors(self):
        return np.r_[[[np.inf, 0]], super().code_vectors()[1:]]


@broken(testing.check_code_vectors, "64 of 64 code vectors changed by encoding")
class LearnsFromWhatItEncodes(Toy):
    seen = 0

    def ids(self, part):
        self.seen += 1
        return super().ids(part)

    def code_vectors(self):
        return super().code_vectors() + self.seen


@broken(testing.check_alphabet, "64 letters, 63 of them different, for 64 codes")
class RepeatsALetter(Toy):
    alphabet = Toy.alphabet[:-1] + "@"

    def encode(self, structure):
        return replace(super().encode(structure), alphabet="")


@broken(testing.check_alphabet, "tokens carry the letters ''")
class WritesNoLetters(Toy):
    def encode(self, structure):
        return replace(super().encode(structure), alphabet="")


@broken(testing.check_invariance, r"rotation and translation change \d+ of \d+ codes \(\d")
class SeesDirection(Toy):
    def ids(self, part):
        upwards = part.coords[:, 2, 2] > part.coords[:, 1, 2]
        return np.where(part.mask, upwards, -1)


@broken(testing.check_invariance, r"rotation and translation change \d+ of \d+ codes \(\d")
class SeesPosition(Toy):
    def ids(self, part):
        far = np.linalg.norm(part.coords[:, 1], axis=1) > 60
        return np.where(part.mask, (super().ids(part) + far) % 64, -1)


@broken(testing.check_mirror, r"the mirror image changes 0 of \d+ codes \(0.0%, at least 60.0%")
class SeesNoHand(Toy):
    def ids(self, part):
        step = np.linalg.norm(part.coords[:, 1] - np.roll(part.coords[:, 1], 3, axis=0), axis=1)
        return np.where(part.mask, np.nan_to_num(step).astype(int) % 64, -1)


@broken(testing.check_mirror, r"at least 60.0% must")
class SeesHandAtEveryOther(Toy):
    def ids(self, part):
        even = np.arange(len(part)) % 2 == 0
        return np.where(part.mask & even, 0, super().ids(part))


@broken(testing.check_batch, r"batching changes \d+ of \d+ codes \(\d+.\d+%, allowed are 0.00%")
class SeesPadding(Toy):
    def encode_batch(self, structures):
        longest = max(map(len, structures))
        tokens = super().encode_batch(structures)
        return [replace(t, ids=np.where(t.ids < 0, -1, (t.ids + (longest > len(t))) % 64)) for t in tokens]


@broken(testing.check_batch, "holds another structure's tokens")
class SortsBatches(Toy):
    def encode_batch(self, structures):
        return super().encode_batch(sorted(structures, key=len))


@broken(testing.check_batch, r"\d+ results for a batch of \d+")
class LosesShort(Toy):
    def encode_batch(self, structures):
        return super().encode_batch([s for s in structures if len(s) > 5])


@broken(testing.check_chains, r"\d+ of 60 codes of chain A change beside the others")
class CountsChains(Toy):
    def encode(self, structure):
        tokens = super().encode(structure)
        ids = np.where(tokens.ids < 0, -1, (tokens.ids + len(structure.chains)) % 64)
        return replace(tokens, ids=ids)


@broken(testing.check_chains, r"codes of chain \w change beside the others, in the order")
class SeesOtherChains(Toy):
    def encode(self, structure):
        gap = np.linalg.norm(structure.coords[:, None, 1] - structure.coords[None, :, 1], axis=-1)
        ids = np.where(structure.mask, np.nansum(gap < 12, axis=1) % 64, -1)
        return Tokens.like(structure, ids, self.size, self.codebook)


@broken(testing.check_missing, r"codes beyond 40.0 Å change .* farthest, \d\d\d?\.\d Å away")
class SeesFar(Toy):
    def ids(self, part):
        return np.where(part.mask, (super().ids(part) + part.mask.sum()) % 64, -1)


@broken(testing.check_missing, "a residue that loses its C has code 5")
class NeedsOnlyCa(Toy):
    def ids(self, part):
        alpha = np.isfinite(part.coords[:, 1, 0])
        return np.where(alpha, np.where(part.mask, super().ids(part), 5), -1)


@broken(testing.check_missing, r"\d+ tokens for \d+ residues, one missing")
class DropsMissing(Toy):
    def encode(self, structure):
        return super().encode(structure[structure.mask])


@broken(testing.check_missing, "no residue lies beyond 900 Å: give larger", radius=900)
class FineButNothingToSee(Toy):
    pass


@broken(testing.check_deterministic, r"\d+ of \d+ codes differ at the second time")
class Random(Toy):
    def ids(self, part):
        return np.where(part.mask, np.random.randint(0, 64, len(part)), -1)


@broken(testing.check_deterministic, r"\d+ of \d+ codes differ at the second time")
class RandomOfTorch(Toy):
    def ids(self, part):
        return np.where(part.mask, torch.randint(0, 64, (len(part),)).numpy(), -1)


@broken(testing.check_deterministic, r"\d+ of \d+ codes differ at the second time")
class Counts(Toy):
    calls = 0

    def ids(self, part):
        self.calls += 1
        return np.where(part.mask, self.calls % 64, -1)


@broken(testing.check_save_load, r"\d+ of \d+ codes differ after loading", load=Toy.load)
class ForgetsItsShift(Toy):
    shift = 0.5

    def save_pretrained(self, folder):
        Path(folder, "config.json").write_text('{"shift": 0.1}')


class OtherName(Toy):
    codebook = "other@1"


class OtherDecoder(Toy):
    def decode(self, tokens):
        back = super().decode(tokens)
        return replace(back, coords=back.coords + np.float32(0.5))


@broken(testing.check_save_load, "saved toy@00c0ffee, .*; loaded other@1", load=OtherName.load)
class LoadsAnother(Toy):
    pass


@broken(testing.check_save_load, "differ by up to 0.5 Å", load=OtherDecoder.load)
class LoadsAnotherDecoder(Toy):
    pass


@broken(testing.check_decode, r"\d+ tokens decode to \d+ residues")
class DecodesComplete(Toy):
    def decode(self, tokens):
        return super().decode(tokens)[tokens.ids >= 0]


@broken(testing.check_decode, r"\d+ of \d+ missing residues get atoms")
class InventsResidues(Toy):
    def decode(self, tokens):
        back = super().decode(tokens)
        return replace(back, coords=np.nan_to_num(back.coords, nan=1.0))


@broken(testing.check_decode, r"\d+ of \d+ coded residues lack atoms")
class DecodesNoOxygen(Toy):
    def decode(self, tokens):
        return testing.exclude(super().decode(tokens), slice(None), atoms=3)


@broken(testing.check_decode, "tokens of another@00000000 are decoded by toy@00c0ffee")
class DecodesAnything(Toy):
    def decode(self, tokens):
        return super().decode(replace(tokens, codebook=self.codebook))


@broken(testing.check_decode, "id 64 is decoded, though ids end at 63")
class DecodesLargeIds(Toy):
    def decode(self, tokens):
        return super().decode(replace(tokens, ids=np.minimum(tokens.ids, 63)))


@broken(testing.check_decode_batch, "place of .* in the batch holds other coordinates than by itself")
class DecodesEndToEnd(Toy):
    def decode_batch(self, tokens):
        return [replace(x, coords=x.coords + i) for i, x in enumerate(super().decode_batch(tokens))]


@broken(testing.check_decode, r"\d+ of \d+ confidences are outside 0..100, such as \[500")
class OverConfident(Toy):
    def decode(self, tokens):
        back = super().decode(tokens)
        return replace(back, bfactor=np.full(len(back), 500, np.float32))


@broken(testing.check_decode, "decoding changes chain")
class RenamesChains(Toy):
    def decode(self, tokens):
        back = super().decode(tokens)
        return replace(back, chain=np.full(len(back), "Z"))


@pytest.mark.parametrize("tokenizer, contract, message, kwargs", BROKEN)
def test_a_broken_tokenizer_is_caught(tokenizer, contract, message, kwargs):
    with pytest.raises(AssertionError, match=message):
        contract(tokenizer(), **kwargs)


def test_every_tokenizer_contract_was_broken_by_some():
    caught = {parameter.values[1] for parameter in BROKEN}
    assert caught == {*testing.contracts_for(Toy())}


class CountsKeyframes(ShapeTokenizer):
    def encode(self, structure, *, keyframes=4):
        tokens = super().encode(structure, keyframes=keyframes)
        return replace(tokens, ids=np.where(tokens.ids < 0, -1, (tokens.ids + keyframes) % self.size))


class AlwaysHasKeyframes(ShapeTokenizer):
    def encode(self, structure, *, keyframes=4):
        return super().encode(structure, keyframes=keyframes or 4)


class NeedsNoKeyframes(ShapeTokenizer):
    def decode(self, tokens, *, letters_alone=False):
        return super().decode(tokens, letters_alone=True)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (CountsKeyframes, "codes of .* change with keyframes each 4"),
        (AlwaysHasKeyframes, "there are keyframes where none were asked for"),
        (NeedsNoKeyframes, "without keyframes are decoded though nobody asked"),
    ],
)
def test_a_broken_tokenizer_with_keyframes_is_caught(kind, message):
    network = small().network
    testing.check_keyframes(ShapeTokenizer(network))
    with pytest.raises(AssertionError, match=message):
        testing.check_keyframes(kind(network))


class AlwaysHasEnvironments(ShapeTokenizer):
    def encode(self, structure, **options):
        return super().encode(structure, **options | {"environments": True})


class ChangesEnvironments(ShapeTokenizer):
    def encode(self, structure, **options):
        tokens = super().encode(structure, **options)
        if (around := tokens.environment) is None:
            return tokens
        return replace(tokens, environment=replace(around, ids=np.maximum(around.ids - 1, -1)))


class HasLettersOfOthers(ShapeTokenizer):
    def encode(self, structure, **options):
        tokens = super().encode(structure, **options)
        if (around := tokens.environment) is None:
            return tokens
        return replace(tokens, environment=replace(around, codebook="other@1"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (AlwaysHasEnvironments, "given where none are asked for"),
        (ChangesEnvironments, "of environments differ from those alone"),
        (HasLettersOfOthers, "letters of .*other@1"),
    ],
)
def test_a_broken_tokenizer_with_environments_is_caught(kind, message):
    network = small(BOTH).network
    testing.check_environments(ShapeTokenizer(network))
    with pytest.raises(AssertionError, match=message):
        testing.check_environments(kind(network))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.eye(3, dtype=int), "of 64 codes have shape"),
        (np.eye(64), "are float64"),
        (np.triu(np.ones((64, 64), int)), "4032 scores are not those"),
        (1 - np.eye(64, dtype=int), "equal codes score no more"),
    ],
)
def test_scores_that_cannot_be_are_caught(scores, message):
    toy = Toy()
    for sound in (None, np.eye(64, dtype=np.int16) * 5 - 1):
        toy.scores = sound
        testing.check_scores(toy)
    toy.scores = scores
    with pytest.raises(AssertionError, match=message):
        testing.check_scores(toy)


def test_a_tokenizer_without_a_decoder_may_say_so():
    class Alphabet(Toy):
        def decode(self, tokens):
            raise Unsupported("an alphabet has no decoder")

    testing.check_decode(Alphabet())


def test_contracts_leave_the_random_state():
    np.random.seed(1)
    torch.manual_seed(1)
    testing.check_deterministic(Toy())
    testing.check_quantizer_mask(VQ(16, 4))
    after = np.random.rand(), float(torch.rand(()))
    np.random.seed(1)
    torch.manual_seed(1)
    VQ(16, 4)
    assert after[0] == np.random.rand() and after[1] == float(torch.rand(()))
