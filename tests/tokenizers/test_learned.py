"""The contracts of protok.testing, for every tokenizer that is shipped."""

import json
from functools import lru_cache, partial

import numpy as np
import pytest
import torch

import protok
from protok import testing
from protok.errors import CodebookMismatch, FormatError
from protok.model.config import DecoderConfig, EncoderConfig, ModelConfig, QuantizerConfig
from protok.model.network import Network
from protok.tokenizers.learned import StructureTokenizer
from tests.helpers import paths

#: 3Di barely sees chirality: in real chains a mirror image changes 4 % of its letters.
MIRROR = {"3di": 0.01}
#: A missing residue shifts the frame of its chain a little, and some codes anywhere with it.
LEARNED = ("protok-512", "protok-512-sites")
SHARE = dict.fromkeys(LEARNED, 0.1)
NAMES = (*LEARNED, "3di", "protein-blocks")
#: These are held to every contract. The other learned ones run the same code with other weights,
#: and are held to what depends on weights.
SHAPES = ("protok-512", "protok-512-sites", "3di", "protein-blocks")
OF_WEIGHTS = (testing.check_invariance, testing.check_mirror, testing.check_missing)
#: Å and TM-score of the examples: codes that say more of the surroundings place residues less well.
ROUND_TRIP = dict.fromkeys(LEARNED, (3.0, 0.8)) | {"protok-512-sites": (4.0, 0.6)}

load = lru_cache(protok.load)


def contracts():
    """Every contract for every tokenizer, with the options that the tokenizer needs."""
    for name in NAMES:
        # Learned ones can do the same, and loading each would make collection slow.
        each = testing.contracts_for(load(LEARNED[0] if name in LEARNED else name))
        for contract in each if name in SHAPES else OF_WEIGHTS:
            options = {}
            if contract is testing.check_mirror and name in MIRROR:
                options["share"] = MIRROR[name]
            if contract is testing.check_missing and name in SHARE:
                options["share"] = SHARE[name]
            yield pytest.param(name, partial(contract, **options), id=f"{name}-{contract.__name__}")


@pytest.mark.parametrize(("name", "contract"), list(contracts()))
def test_contract(name, contract):
    contract(load(name))


GOLDEN = json.loads((paths.GOLDEN / "codes.json").read_text())


@pytest.mark.parametrize("name", LEARNED)
def test_shipped_codes_are_those_of_the_golden_file(name, examples):
    """Moving code must not move a code, nor a digest that token and result files carry."""
    tok, golden = load(name), GOLDEN[name]
    assert testing.contracts_for(tok) == testing.contracts_for(load(LEARNED[0]))
    assert tok.codebook == golden["codebook"]
    assert tok.encoder_fingerprint == golden["encoder"]
    for file, codes in golden["codes"].items():
        ids = tok.encode(examples / file).ids
        # Not all: where two codes are equally near, the last bit of a processor decides.
        same = (ids == np.array(codes.split(","), dtype=int)).mean()
        assert same > 0.99, (file, same)


@pytest.mark.parametrize("name", LEARNED)
def test_round_trip_of_the_examples(name, examples):
    tok, (far, alike) = load(name), ROUND_TRIP[name]
    for file in sorted(examples.glob("*.pdb")):
        chain = protok.read(file)
        again = tok.decode(tok.encode(chain))
        scores = protok.compare(again, chain)
        assert scores.rmsd < far and scores.tm_score > alike, (file.name, scores)
        assert np.nanmin(again.bfactor) >= 0 and np.nanmax(again.bfactor) <= 100


def test_built_backbones_have_peptide_geometry(examples):
    tok = load("protok-512")
    chain = protok.read(sorted(examples.glob("*.pdb"))[0])
    again = tok.decode(tok.encode(chain))
    n, ca, c, o = again.coords.transpose(1, 0, 2)
    bonds = {"N-CA": (n, ca, 1.46), "CA-C": (ca, c, 1.53), "C-O": (c, o, 1.23)}
    for a, b, length in bonds.values():
        assert np.abs(np.linalg.norm(a - b, axis=1) - length).max() < 0.02
    peptide = np.linalg.norm(c[:-1] - n[1:], axis=1)
    assert abs(np.median(peptide) - 1.33) < 0.05 and (np.abs(peptide - 1.33) < 0.2).mean() > 0.9


def test_a_chain_is_read_alone_unless_asked_otherwise():
    tok = load("protok-512")
    both = testing.random_complex([60, 60], seed=3)
    alone, joint = tok.encode(both), tok.encode(both, across_chains=True)
    first = tok.encode(next(iter(both.by_chain())))
    assert (alone.ids[:60] == first.ids).all()
    assert (alone.ids != joint.ids).any()


def test_quantized_embedding_is_the_code_vector():
    tok = load("protok-512")
    chain = testing.exclude(testing.random_backbone(50, seed=9), [10])
    z, q, ids = tok.embed(chain), tok.embed(chain, quantized=True), tok.encode(chain).ids
    assert np.isnan(z[10]).all() and np.isnan(q[10]).all()
    kept = ids >= 0
    assert np.array_equal(q[kept], tok.code_vectors()[ids[kept]])
    assert z.shape == q.shape and not np.array_equal(z[kept], q[kept])


def test_states_are_what_latents_and_decoded_frames_are_made_of():
    tok = load("protok-512")
    both = testing.exclude(testing.random_complex([30, 40], seed=2), [10])
    states, z = tok.states(both), tok.embed(both)
    assert states.shape == (70, tok.network.config.encoder.hidden) and np.isnan(states[10]).all()
    kept = both.mask
    with torch.no_grad():
        again = tok.network.encoder.outputs(torch.from_numpy(states[kept])).numpy()
    np.testing.assert_allclose(again, z[kept], atol=1e-5)
    tokens = tok.encode(both)
    read = tok.states(tokens)
    assert read.shape == (70, tok.network.decoder.width) and np.isnan(read[10]).all()
    with torch.no_grad():
        sure = tok.network.decoder.sure(torch.from_numpy(read[kept]))[:, 0].sigmoid().numpy()
    np.testing.assert_allclose(100 * sure, tok.decode(tokens).bfactor[kept], atol=1e-3)
    # Chains are read one by one, and nothing but their codes.
    alone = tok.states(tok.encode(list(both.by_chain())[1]))
    np.testing.assert_allclose(alone, read[30:], atol=1e-5)
    with pytest.raises(CodebookMismatch):
        tok.states(load("3di").encode(both))


def test_tokens_of_another_codebook_are_refused():
    chain = testing.random_backbone(20, seed=1)
    tokens = load("3di").encode(chain)
    with pytest.raises(CodebookMismatch, match="3di@.*protok-512@"):
        load("protok-512").decode(tokens)


def test_an_unknown_model_is_refused_with_the_names_of_known_ones():
    with pytest.raises(FormatError, match="protok-513.*protok-512.*3di"):
        protok.load("protok-513")


def small(**quantizer):
    torch.manual_seed(0)
    shape = ModelConfig(
        "small",
        EncoderConfig(16, 1, 8),
        QuantizerConfig(size=32, dim=8, **quantizer),
        DecoderConfig(16, 1, 2, 8),
    )
    return StructureTokenizer(Network(shape).eval(), provenance={"seed": 0})


def test_a_saved_model_has_the_same_fingerprints_under_every_schedule(tmp_path):
    for schedule in ("cosine", "adaptive"):
        made = small(schedule=schedule, continuous_share=0.3)
        again = protok.load(made.save_pretrained(tmp_path / schedule, provenance={"steps": 3}))
        assert again.codebook == made.codebook and again.provenance == {"seed": 0, "steps": 3}
        assert again.encoder_fingerprint == made.encoder_fingerprint


def test_a_damaged_model_is_refused(tmp_path):
    folder = small().save_pretrained(tmp_path)
    config, weights = folder / "config.json", folder / "model.safetensors"
    document, whole = json.loads(config.read_text()), weights.read_bytes()

    def refused(message):
        with pytest.raises(FormatError, match=message) as error:
            protok.load(folder)
        assert error.value.file == str(folder) and "\n" not in str(error.value)

    weights.write_bytes(whole[:500])
    refused("not a protok model")
    weights.write_bytes(whole)
    config.write_text(json.dumps(document | {"kind": "prior"}))
    refused("says kind 'prior'")
    for wrong in ([], {}, {"model": 3}, {"model": {"encoder": {"hiden": 16}}}):
        config.write_text(json.dumps(wrong))
        refused("not a protok model")
    document["model"]["decoder"]["width"] = 32
    config.write_text(json.dumps(document))
    refused("do not fit.*size mismatch")
