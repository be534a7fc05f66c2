"""ESM-IF1 and ESM-2 with random weights: states are those that fair-esm's own functions give."""

import sys
import warnings
from argparse import Namespace
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

import protok
from protok.bench.representations import fair_esm as fair
from protok.bench.representations.load import representation
from protok.errors import FormatError, ProtokError
from protok.testing import random_backbone

REASON = "needs pip install 'protok[bench]'"
for needed in ("scipy", "torch_geometric"):
    pytest.importorskip(needed, reason=REASON)
esm = pytest.importorskip("esm", reason=REASON)
if not hasattr(esm, "ESM2"):
    pytest.skip("the package esm here is EvolutionaryScale's", allow_module_level=True)

SIZES = {"embed_dim": 16, "ffn_embed_dim": 24, "attention_heads": 2}
SMALL = Namespace(
    arch="vt_medium_with_invariant_gvp",
    **{f"{side}_{key}": n for side in ("encoder", "decoder") for key, n in SIZES.items()},
    **{"encoder_layers": 2, "decoder_layers": 1, "gvp_num_encoder_layers": 2, "gvp_top_k_neighbors": 8},
    **{"gvp_node_hidden_dim_scalar": 12, "gvp_node_hidden_dim_vector": 4},
    **{"gvp_edge_hidden_dim_scalar": 6, "gvp_edge_hidden_dim_vector": 1},
    **dict.fromkeys(("dropout", "attention_dropout", "gvp_dropout"), 0.1),
)


@pytest.fixture(scope="module")
def inverse():
    """A released-like checkpoint of ESM-IF1, and the original model of the same weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fair._stand_ins():
            gvp_transformer, util = (
                import_module(f"esm.inverse_folding.{name}") for name in ("gvp_transformer", "util")
            )
        torch.manual_seed(0)
        alphabet = esm.data.Alphabet.from_architecture(SMALL.arch)
        model = gvp_transformer.GVPTransformerModel(SMALL, alphabet).eval()
    assert "torch_scatter" not in sys.modules  # nobody else finds the stand-in
    return {"args": SMALL, "model": model.state_dict()}, model, alphabet, util


@pytest.fixture(scope="module")
def language():
    torch.manual_seed(0)
    model = esm.ESM2(num_layers=2, embed_dim=8, attention_heads=2).eval()
    cfg = Namespace(encoder_layers=2, encoder_embed_dim=8, encoder_attention_heads=2, token_dropout=True)
    state = {k: v for k, v in model.state_dict().items() if "contact_head" not in k}
    return {"cfg": {"model": cfg}, "model": state}, model


def test_states_of_inverse_folding_are_those_of_the_original(inverse):
    checkpoint, model, alphabet, util = inverse
    chain = random_backbone(40, 3)
    chain.coords[7] = np.nan
    states = fair.InverseFolding(checkpoint).embed(chain)
    centred = chain.coords - np.nanmean(chain.coords[:, 1], axis=0)
    coords = np.where(np.isfinite(centred), centred, np.inf)[:, :3].astype(np.float32)
    with torch.no_grad():
        wanted = util.get_encoder_output(model, alphabet, coords).numpy()
    there = np.arange(40) != 7
    np.testing.assert_allclose(states[there], wanted[there], atol=1e-5)
    assert np.isnan(states[7]).all() and states.shape == (40, 16)


def test_inverse_folding_sees_structure_and_no_sequence(inverse, examples):
    model = fair.InverseFolding(inverse[0])
    chain = protok.read(examples / "7soo.A.pdb")[:30]
    states = model.embed(chain)
    turned = replace(chain, coords=chain.coords[..., [2, 0, 1]] + np.float32(5))
    np.testing.assert_allclose(model.embed(turned), states, atol=1e-3)
    np.testing.assert_array_equal(model.embed(replace(chain, sequence="A" * 30)), states)
    moved = chain.coords.copy()
    moved[20:] += np.float32([3, 0, 0])
    assert np.abs(model.embed(replace(chain, coords=moved)) - states).max() > 1e-3


def test_states_of_the_language_model_are_those_of_the_original(language):
    checkpoint, model = language
    chain = random_backbone(25, 2)
    chain.coords[3] = np.nan  # it does not look
    states = fair.LanguageModel(checkpoint).embed(chain)
    _, _, ids = model.alphabet.get_batch_converter()([("", chain.sequence)])
    with torch.no_grad():
        wanted = model(ids, repr_layers=[2])["representations"][2][0, 1:-1].numpy()
    np.testing.assert_allclose(states, wanted, atol=1e-6)


def test_files_as_released_are_tokenizers_of_the_command(inverse, language, tmp_path):
    for kind, checkpoint, width in (("esm-if1", inverse[0], 16), ("esm2", language[0], 8)):
        torch.save(checkpoint, tmp_path / f"{kind}.pt")
        who = representation(f"{kind}={tmp_path / kind}.pt")
        assert who.continuous and who.name == kind
        assert who.outputs([random_backbone(12, 0)])[0].shape == (12, width)


def test_what_is_no_checkpoint_is_refused(inverse, monkeypatch):
    with pytest.raises(FormatError, match="esm2"):
        fair.LanguageModel({"model": {}})
    args, state = inverse[0]["args"], dict(inverse[0]["model"])
    state.popitem()
    with pytest.raises(FormatError, match="esm_if1"):
        fair.InverseFolding({"args": args, "model": state})
    monkeypatch.delattr(esm, "ESM2")
    with pytest.raises(ProtokError, match="EvolutionaryScale"):
        fair.LanguageModel({"model": {}})
