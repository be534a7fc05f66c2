"""What a small language model foretells: sequences whose entropy is known, and the tasks made of it."""

from dataclasses import replace

import numpy as np
import pytest

import protok
from protok import bench
from protok.bench.data.opening import read_training
from protok.bench.measures import gru
from protok.bench.measures.gru import GruSettings, learn
from protok.bench.measures.learnability import Lesson, learnability, rate
from protok.bench.representations.reference_codec import ReferenceCodec
from protok.bench.representations.representation import Representation
from protok.cli.main import main
from protok.errors import FormatError, Unsupported
from protok.structure.store import write_store
from protok.testing import exclude, random_backbone
from protok.tokenizers.environments import JointTokenizer
from protok.tokens.files import save
from tests.helpers.models import BOTH, small

SMALL = GruSettings(steps=150, rows=8, letters=32, width=32, lr=1e-2, lr_warmup_steps=5)
#: A mark, and four letters.
MARK, KINDS = 0, [range(1, 5)]


def rows(draw, chains=20, size=200):
    return [np.r_[MARK, 1 + draw(size)].astype(np.int32) for _ in range(chains)]


def bits_a_letter(train, read):
    return learn(train, KINDS, SMALL).bits(read).sum() / sum(len(row) - 1 for row in read)


def test_what_repeats_costs_next_to_nothing():
    def period(size):
        return np.arange(size) % 4

    assert bits_a_letter(rows(period), rows(period)) < 0.05


def test_what_is_drawn_by_lot_costs_its_entropy_and_not_less():
    random, p = np.random.default_rng(0), np.array([0.5, 0.25, 0.125, 0.125])

    def drawn(size):
        return random.choice(4, size, p=p)

    read = rows(drawn)
    used = np.bincount(np.concatenate(read), minlength=5)[1:] / (20 * 200)
    entropy = -(used * np.log2(used)).sum()
    assert entropy == pytest.approx(1.75, abs=0.05)
    assert entropy < bits_a_letter(rows(drawn), read) < entropy + 0.1


def test_marks_cost_nothing_and_kinds_are_told_apart():
    random = np.random.default_rng(0)

    def pairs():
        # A letter and a code of another alphabet in turns: which of the two comes next is not asked.
        return np.r_[0, np.stack([random.integers(1, 3, 60), random.integers(3, 11, 60)], 1).ravel()]

    kinds = [range(1, 3), range(3, 11)]
    model = learn([pairs() for _ in range(40)], kinds, replace(SMALL, steps=60))
    assert model.bits([pairs() for _ in range(9)]).sum() / (9 * 60) == pytest.approx(1 + 3, abs=0.2)
    assert model.bits([np.zeros(50, np.int32)]).tolist() == [0]
    with pytest.raises(ValueError, match="no codes"):
        learn([np.zeros(5, np.int32)], kinds, SMALL)


def test_what_weighs_more_is_learned_more():
    first, second = (np.r_[0, np.full(200, letter)].astype(np.int32) for letter in (1, 2))
    few = replace(SMALL, steps=20)
    often, seldom = (learn([first, second], KINDS, few, np.array(weight)) for weight in ([9, 1], [1, 9]))
    assert often.bits([first])[0] < seldom.bits([first])[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of twelve chains."""
    path = tmp_path_factory.mktemp("store") / "some.parquet"
    write_store([replace(random_backbone(60, seed), name=f"x{seed}") for seed in range(12)], path)
    return path


@pytest.fixture
def tiny(monkeypatch):
    """The protocol with next to no steps."""
    monkeypatch.setattr(gru, "QUICK", replace(SMALL, steps=3))
    return gru.QUICK


def test_structures_and_tokens_of_them_teach_the_same(store, tmp_path):
    tokenizer = protok.load("3di")
    folder = bench.open_data(store)
    chains = [folder.structure(name) for name in folder.ids()]
    save([tokenizer.encode(chain) for chain in chains], tmp_path / "tokens.parquet")
    (tmp_path / "files").mkdir()
    for chain in chains:
        protok.write(chain, tmp_path / "files" / f"{chain.name}.pdb")
    for path in (store, tmp_path / "tokens.parquet", tmp_path / "files"):
        training = read_training(path)
        every = training.some(10_000)
        assert (
            sorted(every) == list(range(12)) and len(training.some(130)) == 2 and len(training.some(1)) == 1
        )
        ids = {each.ids.tobytes() for each in training.tokens(tokenizer, every)}
        assert ids == {tokenizer.encode(chain).ids.tobytes() for chain in chains}
    with pytest.raises(Unsupported, match="no codes of"):
        list(read_training(tmp_path / "tokens.parquet").tokens(protok.load("protein-blocks"), every))


def test_a_manifest_beside_a_store_has_its_weights(store):
    manifest, names = store.with_name("manifest.csv"), bench.open_data(store).ids()
    clusters = [0, 0, 1, 1, *range(4, 12)]
    lines = (f"{name},some,{cluster}" for name, cluster in zip(names, clusters, strict=True))
    manifest.write_text("\n".join(["id,split,cluster30", *lines]) + "\n")
    weight = read_training(store).weight
    manifest.unlink()
    np.testing.assert_allclose(weight / weight[-1], [0.5] * 4 + [1.0] * 8)


def test_two_alphabets_are_foretold_together(store, tmp_path):
    tokenizer = small(BOTH)
    lesson = Lesson(read_training(store), replace(SMALL, steps=30))
    chains = [random_backbone(40, seed) for seed in (20, 21)]
    both = JointTokenizer(tokenizer, tokenizer.environment)
    path = tmp_path / "tokens.parquet"
    training = read_training(store)
    save(training.tokens(tokenizer, training.some(10_000)), path)
    for training in (read_training(store), read_training(path)):
        own = replace(lesson, training=training)
        for who in (tokenizer, tokenizer.environment, both):
            ((scores, points),) = learnability(Representation(who), chains, own).values()
            assert scores["nominal_bits"].value == pytest.approx(np.log2(who.size))
            assert scores["share"].value == pytest.approx(scores["bits"].value / np.log2(who.size))
            assert points == {"learned_from": 12} and scores["bits"].se >= 0
    with pytest.raises(Unsupported, match="has no codes"):
        learnability(Representation(tokenizer, "continuous"), chains, lesson)


def test_rate_counts_keyframes_and_links(store):
    tokenizer = protok.load("protok-1")
    broken = exclude(random_backbone(50, seed=30), [20])
    lesson = Lesson(read_training(store), replace(SMALL, steps=2))
    rows = rate(Representation(tokenizer), [broken], lesson)
    assert list(rows) == [f", keyframes each {n}" for n in tokenizer.spacings]
    for spacing, (scores, _) in zip(tokenizer.spacings, rows.values(), strict=True):
        tokens = tokenizer.encode(broken, keyframes=spacing)
        assert scores["bits_a_residue"].value == pytest.approx(tokens.bits / 49)
        assert scores["rmsd"].value == pytest.approx(protok.rmsd(tokenizer.decode(tokens), broken), abs=1e-3)
        # Untaught, the model knows of no code more than that it is one of so many.
        assert scores["foretold_bits"].value == pytest.approx(tokens.bits / 49, rel=0.03)
    codec = ReferenceCodec(6)
    ((scores, _),) = rate(Representation(codec), [broken], lesson).values()
    stored = codec.encode(broken).bits / 49
    assert stored > 6.9, "a link is more than half a bit a residue of so short a chain"
    assert scores["bits_a_residue"].value == pytest.approx(stored)
    assert scores["foretold_bits"].value == pytest.approx(stored, rel=0.03)


def test_the_tasks_need_something_to_learn_from_and_say_when_it_was_short(store, tiny, tmp_path, capsys):
    with pytest.raises(FormatError, match="nothing to learn codes from for rate; give structures"):
        bench.evaluate("3di", ["rate"], store)
    assert not {"learnability", "rate"} & {*bench.available(bench.open_data(store))}
    command = ["bench", "--model", "3di", "--tasks", "learnability,rate", "--data", str(store), "--quick"]
    assert main([*command, "--train", str(store), "-o", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "all, 3 steps" in shown and "n/a" in shown
    (row, _) = bench.load_results(tmp_path).rows
    assert row.settings["steps"] == 3 and row.settings["train_sha256"]
    assert row.scores["all, 3 steps"]["unigram_bits"]["value"] < np.log2(20) + 0.5
