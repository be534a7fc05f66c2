"""Measures of locality, and the reference codec that stands beside every reconstruction."""

from dataclasses import replace

import numpy as np
import pytest

import protok
from protok import bench
from protok.bench import results
from protok.bench.measures import locality
from protok.bench.measures.lengths import length
from protok.bench.representations.reference_codec import BITS, ReferenceCodec
from protok.bench.representations.representation import Representation
from protok.errors import CodebookMismatch, Unsupported
from protok.structure.io.sources.paths import iter_files
from protok.testing import exclude, random_backbone, random_complex
from tests.helpers.tiny import Tiny


@pytest.fixture(scope="module")
def chains(examples):
    return [protok.read(file) for file in sorted(iter_files([examples]))]


@pytest.fixture(scope="module")
def codec():
    return ReferenceCodec(9)


def test_more_bits_rebuild_better(chains):
    errors = []
    for bits in BITS:
        codec = ReferenceCodec(bits)
        encoded = [codec.encode(chain) for chain in chains]
        errors.append(
            np.mean([protok.rmsd(codec.decode(t), c) for t, c in zip(encoded, chains, strict=True)])
        )
        assert codec.size == 2**bits and all(
            t.bits == pytest.approx(bits * len(t), rel=0.05) for t in encoded
        )
    assert errors == sorted(errors, reverse=True) and errors[0] < 3.5 and errors[-1] < 0.5


def test_complexes_and_gaps_are_linked(codec):
    structure = exclude(random_complex([40, 30], seed=1), [10])
    tokens = codec.encode(structure)
    back = codec.decode(tokens)
    assert np.array_equal(np.isfinite(back.coords[:, 1, 0]), structure.mask)
    assert protok.rmsd(back, structure) < 2 and len(tokens.keyframes.start) == 3
    with pytest.raises(CodebookMismatch):
        ReferenceCodec(8).decode(tokens)


def test_codes_hang_on_all_before_them_and_wrong_ones_move_the_rest(codec, chains):
    who = Representation(codec)
    assert locality.cut(who, chains)[0]["middle_half"].value < 0.4
    scores = locality.wrong_codes(who, chains)[0]
    assert scores["rmsd_letter"].value > 3 * scores["rmsd_right"].value
    assert "rmsd_keyframe" not in scores
    assert 0.1 < scores["lddt_lost_5_percent_of_letters"].value < 1
    stretches = locality.without_keyframes(codec, chains)
    assert 0 < stretches[8].value < stretches[32].value < 0.8 and stretches[8].se > 0


def test_letters_of_neighbours_alone_stay_when_the_chain_is_cut(chains):
    kept = locality.kept_when_cut(protok.load("protein-blocks"), chains, 4)
    # Two residues at either end of a piece have no block.
    assert kept["beyond the window"].value == 1.0 and 0.9 < kept["middle half"].value < 1.0
    assert 0 < kept["middle half"].se < 0.1
    loose = locality.kept_when_cut(protok.load("3di"), chains)
    assert 0.5 < loose["middle half"].value < 1.0 and "beyond the window" not in loose


def test_letters_that_noise_leaves_tell_all_of_themselves(chains):
    kept = locality.kept_under_noise(Tiny(), chains, 0.2, 0)
    ids = np.concatenate([Tiny().encode(chain).ids for chain in chains])
    p = np.bincount(ids) / len(ids)
    assert kept["kept"].value == 1 and kept["kept"].se == 0
    assert kept["mutual_information_bits"].value == pytest.approx(-(p * np.log2(p)).sum())
    assert 0 <= kept["mutual_information_bits"].se < 0.1


def test_chains_are_told_apart_by_their_length():
    class Halves(Tiny):
        """Two letters in usual chains, one in long ones; decoded to what was encoded, long ones stretched."""

        def encode(self, structure):
            ids = np.arange(len(structure)) % 2 if len(structure) < 500 else np.zeros(len(structure), int)
            self.last = structure
            return protok.Tokens.like(structure, ids, 8, self.codebook)

        def decode(self, tokens):
            return replace(self.last, coords=self.last.coords * (1 if len(tokens) < 500 else 1.5))

    some = [random_backbone(n, seed=n) for n in (120, 250, 520, 600)]
    scores, points = length(Representation(Halves()), some)
    assert scores["letters_lost"].value == pytest.approx(1) and scores["letters_lost"].se < 1e-3
    lost = 1 - np.mean([protok.lddt(replace(c, coords=c.coords * 1.5), c) for c in some[2:]])
    assert scores["lddt_lost"].value == pytest.approx(lost, abs=1e-6) and lost > 0.1
    assert scores["rmsd_100_to_200"].value == pytest.approx(0, abs=1e-3) and "rmsd_300_to_500" not in scores
    assert scores["perplexity_500_to_1000"].value == 1 and scores["perplexity_500_to_1000"].se == 0
    assert points["chains"] == {"0": 0, "100": 1, "200": 1, "300": 0, "500": 2, "1000": 0}
    scores, _ = length(Representation(protok.load("3di")), some)
    assert "lddt_lost" not in scores and np.isfinite(scores["letters_lost"].value)


def test_a_domain_has_the_letters_of_its_chain(chains):
    tokenizer, chain = Tiny(), chains[0]
    domains = [(chain, (20, 60)), (chain, (0, len(chain)))]
    scores, points = locality.domain_in_chain(Representation(tokenizer), domains)
    alone, inside = tokenizer.encode(chain[20:60]).ids, tokenizer.encode(chain).ids[20:60]
    assert points["same"] == [round(float((alone == inside).mean()), 4)], "the whole chain is no domain"
    assert scores["same"].value == pytest.approx(points["same"][0], abs=1e-4)
    with pytest.raises(Unsupported, match="no domain lies in a longer chain"):
        locality.domain_in_chain(Representation(tokenizer), domains[1:])


def test_interfaces_are_pairs_of_different_chains():
    structure = random_complex([30, 30], seed=2)
    kept, total = locality.interfaces(structure, structure)
    apart = np.linalg.norm(structure.coords[:30, None, 1] - structure.coords[None, 30:, 1], axis=-1)
    assert kept == total == (apart < 8).sum()


def test_what_cannot_be_measured_says_so(codec):
    with pytest.raises(Unsupported, match="no structure has several chains"):
        locality.complexes(Representation(codec), [random_backbone(40, seed=1)])
    with pytest.raises(Unsupported, match="does not decode"):
        locality.wrong_codes(Representation(protok.load("3di")), [random_backbone(90, seed=1)])
    with pytest.raises(Unsupported, match="have no slices"):
        locality.fragments(Representation(Tiny()), [random_backbone(130, seed=1)])


def test_rows_of_the_harness(chains, tmp_path):
    (tmp_path / "in").mkdir()
    for chain in chains[:2]:
        protok.write(chain, tmp_path / "in" / f"{chain.name}.pdb")
    pair = random_complex([40, 30], seed=3)
    protok.write(pair, tmp_path / "in" / "pair.pdb")
    tasks = ["reconstruction", "stability", "complexes"]
    rows = bench.evaluate("reference-codec-8", tasks, tmp_path / "in", out=tmp_path / "out")
    assert [row.status for row in rows.rows] == [results.OK] * 3
    scores = {row.task["name"]: row.scores.get("all") for row in rows.rows}
    assert 8 <= scores["reconstruction"]["bits_a_residue"]["value"] < 8.7
    headline = [line[2] for line in rows.lines() if line[0] == "reconstruction"]
    assert headline == ["rmsd", "lddt", "bits_a_residue"] and "tm_score" in str(rows)
    assert 0 < scores["complexes"]["rmsd"]["value"] < 2 and rows.rows[2].data["structures"] == {"all": 1}
    assert 0 < scores["stability"]["same_0.2"]["value"] < 0.5
    assert 1 < scores["stability"]["information_0.2"]["value"] < 8
