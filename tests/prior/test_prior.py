"""Priors over codes: rows, corpora, training, sampling, files, and what is imported."""

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra: pip install 'protok[prior]'")

from protok.common.settings import RecipeError
from protok.errors import FormatError, ProtokError
from protok.image.tokens import ImageTokens, save_codes
from protok.prior import Layout, Prior, PriorConfig, Request, read_corpus, read_prior_recipe, sample
from protok.prior import training as train
from protok.prior.corpus import PLAN, Batches
from protok.prior.model import stack
from protok.prior.proteins import as_tokens
from protok.prior.sampling import Drawing, _Stream, pick, requests
from protok.tokens import files
from protok.tokens.layouts import BLOCKS, EOS, FIRST, MASK, UNK
from protok.tokens.tokens import Tokens
from protok.tokens.vocabulary import Vocabulary
from tests.helpers.paths import ROOT
from tests.tokens.test_layouts import make

RECIPES = sorted((ROOT / "recipes" / "prior").glob("*.toml"))
SMALL = {"layers": 2, "width": 32, "heads": 2}
TINY = {
    "model.layers": 2,
    "model.width": 32,
    "model.heads": 2,
    "optim.steps": 12,
    "optim.batch": 64,
    "optim.lr": 1e-2,
    "optim.lr_warmup_steps": 2,
    "optim.precision": "32",
    "valid.every": 6,
    "valid.records": 4,
}
IMAGE = Layout("pictures@0", 7, (2, 3, 2), (8, 12, 4), condition="class", labels=("cat", "dog"))
CHAIN = Layout("chains@0", 7, condition="none", longest=20, lengths=(4, 9))
LETTERS = Layout("chains@0", 7, condition="sequence", longest=20, labels=("A", "G", "X"))


def chain(ids, name="one", sequence=None, book="chains@0", size=7):
    n = len(ids)
    return Tokens(
        np.array(ids),
        size,
        book,
        sequence or "A" * n,
        np.full(n, "A"),
        np.arange(1, n + 1),
        np.full(n, ""),
        name,
    )


def prior(layout, architecture="llama", seed=0):
    torch.manual_seed(seed)
    made = Prior(PriorConfig(architecture=architecture, **SMALL), layout)
    # Weights as small as the usual ones hardly tell one context from another.
    for p in made.network.parameters():
        p.data.mul_(4)
    return made


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Chains that count up or, where the letters are G, down; lengths from 5 to 12."""
    rng = np.random.default_rng(0)
    chains = []
    for i in range(80):
        n, start, down = rng.integers(5, 13), rng.integers(7), i % 2
        ids = (start + np.arange(n) * (-1 if down else 1)) % 7
        chains.append(chain(ids, f"c{i}", "AG"[down] * n))
    path = tmp_path_factory.mktemp("tokens") / "wheels.parquet"
    files.save(chains, path)
    return path


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """Images of 2 x 2 codes of 2 levels: cats have even codes first, dogs odd ones."""
    rng = np.random.default_rng(0)
    images = []
    for i in range(60):
        ids = rng.integers(0, 8, (2, 2, 2)).astype(np.int32)
        ids[..., 0] = ids[..., 0] // 2 * 2 + i % 2
        ids[..., 1] = (ids[..., 0] + 1) % 8
        images.append(ImageTokens(ids, 8, "pictures@0", 8, 8, 4, f"{'cat dog'.split()[i % 2]}/{i}"))
    return save_codes(images, tmp_path_factory.mktemp("codes") / "drawings.npz")


@pytest.mark.parametrize("order", ["level", "place"])
def test_codes_of_images_come_back_from_their_row(order):
    layout = Layout("p@0", 7, (2, 3, 2), (8, 12, 4), order=order, condition="class", labels=("cat", "dog"))
    codes = np.random.default_rng(0).integers(0, 7, (2, 3, 2))
    row = layout.row(codes, "dog")
    assert row.scored.tolist() == [False] * 2 + [True] * 12
    assert row.ids.max() < len(layout) and row.positions.tolist() == list(range(14))
    assert np.array_equal(layout.unflatten(row.ids[2:]), codes)
    assert all(layout.allowed(i, None)[token] for i, token in enumerate(row.ids[2:]))
    first = np.flatnonzero(layout.allowed(0, None)) - 6
    assert first.tolist() == list(range(7))
    if order == "level":
        assert np.array_equal(row.ids[2:8] - 6, codes[..., 0].ravel())
    assert layout.row(codes, None).ids[1] == MASK


def test_a_chain_ends_and_its_missing_codes_do_not_count():
    row = CHAIN.row(np.array([3, -1, 5]))
    assert row.ids[2] == UNK and row.ids[-1] == EOS
    assert row.scored.tolist() == [False, True, False, True, True]
    assert CHAIN.allowed(2, None)[EOS] and not CHAIN.allowed(0, None)[EOS]
    assert not CHAIN.allowed(2, 3)[EOS]
    assert np.flatnonzero(CHAIN.allowed(3, 3)).tolist() == [EOS]
    assert not CHAIN.allowed(2, 3)[UNK]


def test_letters_stand_where_their_codes_do():
    row = LETTERS.row(np.array([4, 2, 6]), "AGZ")
    assert row.positions.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert (row.ids[1:4] - LETTERS.first_label).tolist() == [0, 1, 2]  # Z is another letter
    hidden = LETTERS.row(np.array([4, 2, 6]), None)
    assert hidden.positions.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("layout", "codes", "condition", "message"),
    [
        (IMAGE, np.zeros((2, 3, 2), int), "cow", "no class 'cow'.*cat, dog"),
        (IMAGE, np.zeros((3, 3, 2), int), "cat", "do not fit"),
        (CHAIN, np.zeros(21, int), None, "do not fit"),
        (CHAIN, np.full(3, 7), None, "do not fit"),
        (Layout("c@0", 7, condition="length", longest=20), np.zeros(3, int), 21, "was not learned"),
    ],
)
def test_what_does_not_fit_a_layout_is_refused(layout, codes, condition, message):
    with pytest.raises(FormatError, match=message):
        layout.row(codes, condition)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_padding_and_later_codes_change_nothing(architecture):
    made = prior(LETTERS, architecture)
    rows = [LETTERS.row(np.arange(n) % 7, "AG" * (n // 2)) for n in (4, 10)]
    alone = [made.bits([row])[0] for row in rows]
    assert made.bits(rows) == pytest.approx(alone, abs=1e-4)
    batch = stack(rows[1:])
    read = {"position_ids": batch["positions"], "attention_mask": batch["mask"]}
    logits = made.network(batch["ids"], **read).logits
    batch["ids"][0, -1] = 6
    other = made.network(batch["ids"], **read).logits
    assert torch.equal(logits[:, :-1], other[:, :-1]) and not torch.equal(logits, other)
    batch["ids"][0, 1] = LETTERS.first_label + 2
    assert not torch.allclose(made.network(batch["ids"], **read).logits[:, -1], other[:, -1])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("layout", "condition", "codes"),
    [
        (IMAGE, "dog", np.arange(12).reshape(2, 3, 2) % 7),
        (LETTERS, "AGXA", np.array([1, 4, 2, 5])),
        (CHAIN, None, np.array([1, 4, 2, 5])),
    ],
)
def test_kept_keys_and_values_give_what_the_whole_row_gives(architecture, layout, condition, codes):
    made = prior(layout, architecture)
    row = layout.row(codes, condition)
    batch = stack([row])
    with torch.no_grad():
        whole = made.network(
            batch["ids"], position_ids=batch["positions"], attention_mask=batch["mask"]
        ).logits[0]
        ids, positions = layout.prefix(condition)
        stream = _Stream(made, [(ids, positions)])
        for i in range(len(ids), len(row.ids)):
            assert torch.allclose(stream.logits[0], whole[i - 1], atol=1e-4), i
            stream.add(torch.tensor([row.ids[i]]))


def test_a_sample_depends_on_its_seed_and_number_only():
    made = prior(CHAIN)
    wanted = [Request(length=n) for n in (3, 8, 20, 5)]
    codes = sample(made, wanted, seed=1)
    assert [len(ids) for ids in codes] == [3, 8, 20, 5]
    again = sample(made, wanted, seed=1, batch=1)
    assert all(np.array_equal(a, b) for a, b in zip(codes, again, strict=True))
    other = sample(made, wanted, seed=2)
    assert not all(np.array_equal(a, b) for a, b in zip(codes, other, strict=True))
    free = sample(made, [Request()] * 30, seed=1)
    assert len({len(ids) for ids in free}) > 3 and max(map(len, free)) <= 20
    assert all(ids.min() >= 0 and ids.max() < 7 for ids in free)


def test_samples_follow_the_distribution():
    logits = torch.tensor([[0.0, 2.0, -torch.inf, 1.0]]).repeat(4000, 1)
    chance = (torch.arange(4000) + 0.5) / 4000
    share = torch.bincount(pick(logits, chance, 1.0, 1.0), minlength=4) / 4000
    assert torch.allclose(share, torch.softmax(logits[0], 0), atol=1e-3)
    assert set(pick(logits, chance, 1.0, 0.6).tolist()) == {1}
    assert set(pick(logits, chance, 1.0, 0.8).tolist()) == {1, 3}
    assert set(pick(logits, chance, 0.0, 1.0).tolist()) == {1}
    never_last = torch.tensor([[0.0, 2.0, 1.0, -torch.inf]])
    assert [int(pick(never_last, torch.tensor([1.0]), 1.0, p)) for p in (1.0, 0.99)] == [2, 0]
    flat = torch.bincount(pick(logits, chance, 4.0, 1.0), minlength=4)
    assert flat[0] > 4000 * share[0]


@pytest.mark.slow
def test_guidance_moves_samples_towards_their_condition():
    made = prior(IMAGE)
    bits = {}
    for guidance in (0.0, 3.0):
        codes = sample(made, [Request("cat")] * 40, Drawing(guidance=guidance))
        gain = [made.bits([IMAGE.row(ids, None)])[0] - made.bits([IMAGE.row(ids, "cat")])[0] for ids in codes]
        bits[guidance] = np.mean(gain)
    assert bits[3.0] > bits[0.0] + 0.1


def test_wishes_that_cannot_be_met_are_refused():
    made = prior(CHAIN)
    with pytest.raises(ProtokError, match="length of 21"):
        sample(made, [Request(length=21)])
    with pytest.raises(ProtokError, match="top-p"):
        Drawing(top_p=0.0)
    assert requests(prior(IMAGE), 3) == [Request("cat"), Request("dog"), Request("cat")]
    assert requests(made, 3, lengths=[5, 6]) == [Request(None, 5), Request(None, 6), Request(None, 5)]


class Likes:
    """Steers towards a code: each of them weighs so much."""

    def __init__(self, code, weight, particles):
        self.code, self.weight, self.particles = code, weight, particles

    def due(self, progress):
        return progress.residues == 1

    def aims(self, records):
        return np.array([len(ids) for ids in records])[:, None]

    def log_weights(self, records, lengths, aims):
        assert (aims[:, 0] == lengths).all()
        assert all(len(ids) <= n for ids, n in zip(records, lengths, strict=True))
        return np.array([self.weight * (ids == self.code).sum() for ids in records])


def of_pairs(made):
    """Probability of each chain of two codes, (7, 7)."""
    with torch.no_grad():
        first = made.network(torch.tensor([[1]])).logits[0, -1, 6:13].softmax(-1)
        rows = torch.tensor([[1, 6 + i] for i in range(7)])
        return (first[:, None] * made.network(rows).logits[:, -1, 6:13].softmax(-1)).numpy()


def shares(codes):
    counts = np.zeros((7, 7))
    np.add.at(counts, tuple(np.stack(codes).T), 1 / len(codes))
    return counts


def test_particles_follow_the_distribution_times_the_weight():
    made = prior(CHAIN)
    expected = of_pairs(made)
    wanted = [Request(length=2)] * 400
    plain = shares(sample(made, wanted))
    weights = np.exp(2.0 * ((np.arange(7) == 3)[:, None] + (np.arange(7) == 3.0)))
    tilted = expected * weights / (expected * weights).sum()
    steered = shares(sample(made, wanted, steering=Likes(3, 2.0, 32)))

    def off(share, p):
        return abs(share - p).sum()

    assert off(plain, expected) < 0.4 and off(steered, tilted) < 0.4 < off(plain, tilted)
    again = sample(made, wanted[:3], steering=Likes(3, 2.0, 32), first=2, batch=1)
    both = sample(made, wanted[:5], steering=Likes(3, 2.0, 32))
    assert all(np.array_equal(a, b) for a, b in zip(again, both[2:], strict=False))


def test_told_codes_are_kept_and_what_is_before_expects_them():
    made = prior(CHAIN)
    expected = of_pairs(made)[:, 5] / of_pairs(made)[:, 5].sum()
    told = [Request(length=2, fixed={1: 11})] * 400
    codes = sample(made, told, steering=Likes(0, 0.0, 32))
    assert {ids[1] for ids in codes} == {5}
    got = np.bincount([ids[0] for ids in codes], minlength=7) / len(codes)
    assert abs(got - expected).sum() < 0.25
    assert [ids.tolist() for ids in sample(made, [Request(length=3, fixed={0: 6, 2: 8})])][0][::2] == [0, 2]
    with pytest.raises(ProtokError, match="<eos> cannot stand at position 1"):
        sample(made, [Request(length=3, fixed={1: EOS})])


def test_a_class_of_chains_is_a_condition_beside_the_length(wheels, tmp_path):
    table = tmp_path / "classes.tsv"
    table.write_text("".join(f"c{i}\t{'up down'.split()[i % 2]}\n" for i in range(80)))
    plan = TINY | {"data.condition": "length+class", "data.classes": str(table), "data.longest": 20}
    made = Prior.from_pretrained(train.run(tokens=wheels, out=tmp_path / "run", overrides=plan))
    layout = made.layout
    assert layout.labels == ("16", "32", "down", "up") and layout.classes == ("down", "up")
    assert layout.label_names == ["<length:16>", "<length:32>", "<class:down>", "<class:up>"]
    label = layout.first_label
    for condition, ids in (
        ((17, "up"), [1, label + 1, label + 3]),
        ((3, None), [1, label, MASK]),
        (None, [1, MASK, MASK]),
    ):
        assert layout.prefix(condition)[0].tolist() == ids
    assert requests(made, 3, lengths=[5], classes=["up", "down"])[1] == Request((5, "down"), 5)
    assert {len(ids) for ids in sample(made, requests(made, 4, lengths=[5], classes=["up"]))} == {5}
    drawn = [request.condition for request in requests(made, 40, lengths=[5])]
    assert layout.shares == pytest.approx([0.5] * 4, abs=0.1)
    assert {kind for _, kind in drawn} == {"up", "down"}
    assert layout.class_at(None, 0.5) is None and layout.class_at(20, 0.6) == "up"
    with pytest.raises(FormatError, match="no class 'sideways' was learned"):
        sample(made, requests(made, 1, classes=["sideways"]))
    with pytest.raises(ProtokError, match="--sequence do not fit this prior"):
        requests(made, 1, sequences=["AG"])
    corpus = read_corpus(wheels, classes=table)
    rows = [row.ids[1:3] for k in range(40) for row in Batches(corpus, layout, 60, 0.3, 0).batch(k)]
    hidden = np.array(rows) == MASK
    assert 0.05 < (hidden[:, 0] & ~hidden[:, 1]).mean() < 0.4 and 0.02 < hidden.all(1).mean() < 0.2
    table.write_text("c0 up\n")
    with pytest.raises(FormatError, match="not a table of names and classes"):
        read_corpus(wheels, classes=table)


@pytest.mark.slow
def test_a_condition_is_learned_and_obeyed(wheels, tmp_path):
    plan = TINY | {
        "data.condition": "sequence",
        "data.longest": 12,
        "optim.steps": 220,
        "valid.every": 110,
        "optim.batch": 160,
    }
    made = Prior.from_pretrained(train.run(tokens=wheels, out=tmp_path / "run", overrides=plan))
    # The first code of a chain is free, so is its sense where the letters are hidden.
    assert made.provenance["valid_bits"] < 0.75
    up, down = sample(made, [Request("A" * 8, 8), Request("G" * 8, 8)], Drawing(temperature=0.0))
    assert set(np.diff(up) % 7) == {1} and set(np.diff(down) % 7) == {6}
    assert made.provenance["train_records"] == 76 and made.provenance["steps"] == 220
    held = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert held["data"]["condition"] == "sequence"


@pytest.mark.parametrize("layout", [BLOCKS, FIRST])
def test_chains_with_keyframes_are_drawn_as_their_layout_says(layout, tmp_path):
    rng = np.random.default_rng(0)
    chains = [make(rng.integers(7, size=n), "A" * n, seed=n) for n in (9, 12, 14, 19, 20)] * 2
    chains.append(make(rng.integers(7, size=15), "A" * 15, breaks=[6]))
    path = tmp_path / "t.parquet"
    files.save([replace(chain, name=f"c{i}") for i, chain in enumerate(chains)], path)
    plan = TINY | {"data.layout": layout, "data.condition": "length", "data.longest": 32, "valid.records": 1}
    plan |= {"data.valid": str(path)}
    made = Prior.from_pretrained(train.run(tokens=path, out=tmp_path / "run", overrides=plan))
    assert made.layout.spacing == 4 and made.layout.lengths[-1] == 20
    asked = [Request(8, 8), Request(13, 13), Request(1, 1), Request(), Request(), Request()]
    codes = sample(made, asked)
    tokens = as_tokens(made.layout, codes, asked)
    assert [len(t) for t in tokens[:3]] == [8, 13, 1] and max(map(len, tokens)) <= 32
    vocabulary = made.layout.vocabulary
    for chain, ids in zip(tokens, codes, strict=True):
        assert vocabulary.encode(chain)[1:-1] == (ids + 6).tolist()
    with pytest.raises(FormatError, match="letters of a sequence have no keyframes"):
        train.run(tokens=path, out=tmp_path / "x", overrides=plan | {"data.condition": "sequence"})


@pytest.mark.slow
def test_classes_of_images_are_learned(drawings, tmp_path):
    plan = TINY | {
        "model.architecture": "gpt2",
        "data.condition": "class",
        "data.order": "place",
        "optim.steps": 150,
        "optim.batch": 128,
        "valid.every": 75,
    }
    made = Prior.from_pretrained(train.run(tokens=drawings, out=tmp_path / "run", overrides=plan))
    assert made.layout.labels == ("cat", "dog") and made.layout.grid == (2, 2, 2)
    codes = sample(made, requests(made, 12))
    even = np.mean([ids[..., 0] % 2 == i % 2 for i, ids in enumerate(codes)])
    follow = np.mean([ids[..., 1] == (ids[..., 0] + 1) % 8 for ids in codes])
    assert even > 0.9 and follow > 0.9


def test_a_saved_prior_is_the_same_and_a_damaged_one_is_refused(tmp_path):
    made = prior(IMAGE, "gpt2")
    folder = made.save_pretrained(tmp_path / "p", provenance={"steps": 3})
    weights = ["config.json", "model.safetensors"]
    assert sorted(f.name for f in folder.iterdir()) == [*weights, "tokenizer.json", "tokenizer_config.json"]
    again = Prior.from_pretrained(folder)
    assert again.layout == IMAGE and again.provenance == {"steps": 3}
    rows = [IMAGE.row(np.zeros((2, 3, 2), int), "cat")]
    assert np.array_equal(again.bits(rows), made.bits(rows))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:500])
    with pytest.raises(FormatError, match="not a prior"):
        Prior.from_pretrained(folder)
    with pytest.raises(FormatError, match=str(tmp_path / "nowhere")):
        Prior.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_transformers_loads_a_prior_and_gives_it_back(architecture, tmp_path):
    hugging = pytest.importorskip("transformers")
    tokens = make(np.arange(13) % 7, "A" * 13)
    vocabulary = Vocabulary.of(tokens)
    rows = {"arrangement": vocabulary.layout, "spacing": vocabulary.spacing, "motions": vocabulary.motions}
    labels = {"condition": "length", "longest": 32, "labels": ("16", "32"), "lengths": (13,)}
    made = prior(Layout(vocabulary.codebook, len(vocabulary) - 6, **rows, **labels), architecture)
    if rounded := architecture == "llama":
        made.round()
    folder = made.save_pretrained(tmp_path / "p", provenance={"steps": 3})
    numbers = sum(weight.numel() for weight in made.network.parameters())
    assert ((folder / "model.safetensors").stat().st_size < 3.5 * numbers) == rounded
    model = hugging.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = hugging.AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == len(made.layout) == model.config.vocab_size
    # The label stands behind <bos>, which the tokenizer writes.
    batch = tokenizer(f"<length:16> {vocabulary.text(tokens)}", return_tensors="pt")
    ids = made.layout.row(np.array(vocabulary.encode(tokens)[1:-1]) - 6, 13).ids
    assert batch["input_ids"].tolist() == [ids.tolist()]
    with torch.no_grad():
        expected = made.network(torch.from_numpy(ids)[None]).logits
        assert torch.equal(model(batch["input_ids"]).logits, expected)
        assert expected.std() > 0.1
    assert Vocabulary.load(folder) == vocabulary
    model.save_pretrained(tmp_path / "again")
    again = Prior.from_pretrained(tmp_path / "again")
    assert (again.layout, again.config, again.provenance) == (made.layout, made.config, {"steps": 3})
    assert torch.equal(again.network(batch["input_ids"]).logits, expected)


def test_ids_of_images_have_names_too(tmp_path):
    hugging = pytest.importorskip("transformers")
    layout = replace(IMAGE, labels=("cat", "big dog"))
    tokenizer = hugging.AutoTokenizer.from_pretrained(prior(layout, "gpt2").save_pretrained(tmp_path / "p"))
    ids = layout.row(np.arange(12).reshape(2, 3, 2) % 7, "big dog").ids
    text = "<class:big%20dog> " + " ".join(f"<s{i - 6}>" for i in ids[2:])
    assert tokenizer(text)["input_ids"][:-1] == ids.tolist() and len(tokenizer) == len(layout)


def test_batches_are_alike_in_length_and_hide_conditions(wheels):
    corpus = read_corpus(wheels)
    plan = read_prior_recipe(None, {"data.condition": "sequence", "data.longest": 12})
    layout = corpus.layout(plan.data)
    batches = Batches(corpus, layout, 60, 0.3, 0)
    planned = [batches.batch(step) for step in range(2 * PLAN)]
    spread = [len({r.scored.sum() for r in rows}) for rows in planned]
    assert np.mean(spread) < 3
    hidden = [r.ids[1] < layout.first_label for rows in planned for r in rows]
    assert 0.15 < np.mean(hidden) < 0.45
    again = Batches(corpus, layout, 60, 0.3, 0).batch(5)
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(again, planned[5], strict=True))


def test_files_that_cannot_be_learned_are_refused(tmp_path, drawings):
    mixed = tmp_path / "mixed.parquet"
    files.save([chain([1, 2]), chain([1, 2], book="other@1")], mixed)
    with pytest.raises(FormatError, match="2 codebooks"):
        read_corpus(mixed)
    files.save([chain([1, 2, 3])], tmp_path / "long.npz")
    assert len(read_corpus(tmp_path / "long.npz")) == 1
    with pytest.raises(FormatError, match="nothing|no codes"):
        read_corpus(tmp_path / "long.npz", longest=2)
    with pytest.raises(FormatError, match="no such file"):
        read_corpus(tmp_path / "none.npz")
    two = [ImageTokens(np.zeros((1, n), np.int32), 8, "p@0", 4, 4 * n, 4, "x") for n in (1, 2)]
    with pytest.raises(FormatError, match="2 sizes of images"):
        read_corpus(save_codes(two, tmp_path / "sizes.npz"))
    with pytest.raises(FormatError, match="'x' names no class"):
        plan = TINY | {"data.condition": "class"}
        train.run(tokens=save_codes(two[:1] * 3, tmp_path / "c.npz"), out=tmp_path / "r", overrides=plan)
    with pytest.raises(FormatError, match="images have no length"):
        train.run(tokens=drawings, out=tmp_path / "r", overrides={"data.condition": "length"})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model.architecture": "rnn"}, "'rnn' is not one of llama, gpt2"),
        ({"model.width": 30}, "does not divide into 2 heads"),
        ({"data.condition": "mood"}, "none, class, length, length.class, sequence"),
        ({"data.ordre": "level"}, "did you mean order"),
        ({"model.heads": 0}, "heads 0 is too small"),
        ({"valid.records": 0}, "records 0 is too small"),
        ({"optim.batch": 0}, "batch 0 is too small"),
        ({}, "nothing to learn"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path, wrong, message):
    with pytest.raises(RecipeError, match=message):
        train.run(out=tmp_path / "x", overrides={"model.width": 32, "model.heads": 2} | wrong)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_run_dry(path, wheels, drawings, tmp_path):
    """Two steps: all as in the recipe but numbers and widths."""
    plan = read_prior_recipe(path)
    assert plan.model.name == f"prior-{path.stem}"
    small = {
        "model.layers": 1,
        "model.width": 16,
        "model.heads": 2,
        "optim.steps": 2,
        "optim.batch": 32,
        "optim.precision": "32",
        "optim.lr_warmup_steps": 1,
        "valid.every": 2,
        "valid.records": 2,
    }
    data = drawings if plan.data.condition == "class" else wheels
    if plan.data.classes:
        table = tmp_path / "classes.tsv"
        table.write_text("".join(f"c{i}\tup\n" for i in range(80)))
        small["data.classes"] = str(table)
    model = train.run(path, tokens=data, out=tmp_path / "run", overrides=small)
    made = Prior.from_pretrained(model)
    assert made.provenance["steps"] == 2
    assert len(sample(made, requests(made, 2))) == 2


@pytest.mark.slow
def test_importing_priors_loads_no_protein_module():
    script = """
import sys, protok.prior, protok.cli.prior
assert "torch" not in sys.modules
import protok.prior.training, protok.prior.sampling, protok.prior.images
mine = {m for m in sys.modules if m.startswith("protok.")}
# Records of codes know the plain container of residues, and nothing else of proteins.
of_proteins = ("structure", "model", "tokenizers", "training", "pipeline", "analysis", "viz", "bench")
print(*[m for m in mine - {"protok.structure", "protok.structure.backbone"}
        if m.startswith(tuple(f"protok.{p}" for p in of_proteins))])
print(*[m for m in ("biotite", "gemmi", "Bio") if m in sys.modules])
print(*[m for m in mine if m.startswith(("protok.prior.proteins", "protok.prior.judge"))])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("damage", ["empty", "half", "changed"])
def test_a_damaged_checkpoint_costs_some_steps_and_no_more(wheels, tmp_path, monkeypatch, damage):
    """A run that was killed, and whose newest checkpoint is damaged, ends as if nothing had happened."""
    from protok.common import callbacks

    plan = {**TINY, "valid.every": 4}
    expected = Prior.from_pretrained(train.run(tokens=wheels, out=tmp_path / "whole", overrides=plan))
    save = callbacks.AtomicCheckpoints.save_checkpoint

    def killed(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path, storage_options)
        if checkpoint["global_step"] == 8:
            raise RuntimeError("killed")

    monkeypatch.setattr(callbacks.AtomicCheckpoints, "save_checkpoint", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train.run(tokens=wheels, out=tmp_path / "run", overrides=plan)
    monkeypatch.undo()
    last, previous = (tmp_path / "run" / "checkpoints" / n for n in (callbacks.LAST, callbacks.PREVIOUS))
    good = last.read_bytes()
    changed = bytearray(good)
    changed[len(good) // 2] ^= 255
    last.write_bytes({"empty": b"", "half": good[: len(good) // 2], "changed": bytes(changed)}[damage])
    before = torch.load(previous, weights_only=True)["global_step"]
    assert before < 8

    def looks(self, checkpoint, path, storage_options=None):
        assert not last.exists() or callbacks.read_checkpoint(last, "") is not None, "damage is not kept"
        save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(callbacks.AtomicCheckpoints, "save_checkpoint", looks)
    with pytest.warns(callbacks.CheckpointWarning, match="last.ckpt cannot be read.*checkpoint before it"):
        model = train.run(tokens=wheels, out=tmp_path / "run", overrides=plan, resume=True)
    for key, value in Prior.from_pretrained(model).network.state_dict().items():
        assert torch.equal(value, expected.network.state_dict()[key]), key


def test_no_mirror_image_of_a_training_image_is_held_out(tmp_path):
    rng = np.random.default_rng(0)
    # The last has its mirror image only, and one is a file of the name of another's.
    names = [f"a/{i}{end}" for i in range(50) for end in ("", "-mirrored")]
    names += ["a/3-mirrored-mirrored", "a/lone-mirrored"]
    ids = rng.integers(0, 8, (len(names), 2, 2)).astype(np.int32)
    images = [ImageTokens(codes, 8, "m@1", 16, 16, 8, n) for codes, n in zip(ids, names, strict=True)]
    file = str(save_codes(images, tmp_path / "c.npz"))
    learned, held = train.parts(read_prior_recipe(None, {"data.train": file}))
    assert sorted(held.names) == ["a/19", "a/19-mirrored", "a/39", "a/39-mirrored"]
    assert len(learned) + len(held) == len(names)


def test_batches_of_chains_have_few_widths(wheels):
    corpus = read_corpus(wheels)
    layout = corpus.layout(read_prior_recipe(None).data)
    batches = Batches(corpus, layout, 64, 0.0, 0)
    module = SimpleNamespace(global_step=0, recipe=read_prior_recipe(None, {"optim.steps": 20}))
    for step, batch in enumerate(train.Steps(batches, module)):
        plain = stack(batches.batch(step))
        n = plain["ids"].shape[1]
        assert batch["ids"].shape[1] % train.WIDTH == 0 and batch["ids"].shape[1] - n < train.WIDTH
        assert all(torch.equal(batch[key][:, :n], plain[key]) for key in plain)
        assert not batch["mask"][:, n:].any() and (batch["targets"][:, n:] < 0).all()
