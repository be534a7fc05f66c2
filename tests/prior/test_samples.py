"""Samples of priors as proteins and as pictures: files, validity, diversity, novelty, commands."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra: pip install 'protok[prior]'")

from PIL import Image

import protok
from protok.analysis.database import Database
from protok.analysis.substitution import default_matrix
from protok.cli import main
from protok.errors import CodebookMismatch, FormatError, ProtokError
from protok.image import ImageConfig, ImageTokenizer, load_codes, open_pictures
from protok.image.config import CodebookConfig
from protok.image.metrics import frechet
from protok.image.network import ImageNetwork
from protok.image.pixels import read_pixels, write_pixels
from protok.prior import Layout, Prior, PriorConfig, Request, evaluate, read_corpus, sample
from protok.prior.config import PriorDataConfig
from protok.prior.corpus import read_classes
from protok.prior.evaluate import code_use, controls, score_chains
from protok.prior.images import likeness, repetition
from protok.prior.judge import bars, diversity, novelty, summary
from protok.prior.markov import Markov
from protok.prior.proteins import as_tokens, contacts, decoder, fixed, is_valid, soundness
from protok.prior.sampling import requests
from protok.prior.steering import FACTORS, PRECISION, Geometry, elements, log_weight, measures, terms
from protok.structure.descriptors import secondary_structure
from protok.structure.io.sources.paths import iter_files
from protok.structure.store import write_store
from protok.tokens import files
from protok.tokens.vocabulary import Vocabulary
from tests.helpers.paths import ROOT

TINY = {
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "optim.steps": 2,
    "optim.batch": 64,
    "optim.precision": "32",
    "valid.every": 2,
    "valid.records": 2,
}


@pytest.fixture(scope="module")
def tokenizer():
    return protok.load("protok-1")


@pytest.fixture(scope="module")
def chains(examples):
    """Stretches of bundled structures: real backbones, short enough to decode quickly."""
    chains = []
    for path in sorted(iter_files([examples])):
        whole = next(protok.read(path).by_chain())
        stop = min(40, len(whole))
        chains.append(replace(whole[np.arange(stop)], name=path.stem))
    return chains


@pytest.fixture(scope="module")
def encoded(tokenizer, chains, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "chains.parquet"
    files.save(tokenizer.encode_batch(chains), path)
    return path


def moved(backbone, coords):
    return replace(backbone, coords=np.asarray(coords, np.float32))


def test_soundness_tells_a_protein_from_none(chains):
    whole = next(chain for chain in chains if chain.mask.all())
    good = soundness(whole)
    assert is_valid(good) and good["length"] == len(whole) and good["left_handed"] < 0.25
    assert good["bonds"] > 0.95 and 0.7 < good["compactness"] < 2.5
    mirrored = soundness(moved(whole, whole.coords * [-1, 1, 1]))
    assert mirrored["left_handed"] > 0.6 and mirrored["helix"] <= good["helix"]
    broken = whole.coords.copy()
    broken[20:] += 5.0
    assert soundness(moved(whole, broken))["breaks"] == 1
    assert not is_valid(soundness(moved(whole, broken)))
    assert not is_valid(soundness(moved(whole, whole.coords * 0.7)))
    assert soundness(moved(whole, whole.coords * 0.7))["clashes"] > good["clashes"]
    shaken = whole.coords + np.random.default_rng(0).normal(0, 0.3, whole.coords.shape)
    assert not is_valid(soundness(moved(whole, shaken)))
    assert good["favoured"] > 0.8 and good["outliers"] < 0.05
    assert mirrored["favoured"] < good["favoured"] - 0.2 and mirrored["outliers"] > 0.1
    assert good["radius"] == mirrored["radius"] and 0.05 < good["contact_order"] < 0.7
    means = summary([whole, moved(whole, broken)], lambda backbone: float(len(backbone)))
    assert means["valid"] == 0.5 and means["breaks"] == {"mean": 0.5, "spread": 0.5, "median": 0.5}
    assert means["mpnn"]["mean"] == len(whole)
    assert soundness(whole[np.arange(1)])["breaks"] == 0


def test_the_training_chain_that_a_sample_repeats_is_found(tokenizer, encoded):
    tokens = files.load(encoded)
    database = Database(tokens)
    matrix = default_matrix(tokenizer, database.usage())
    turned = replace(tokens[1], ids=np.roll(tokens[1].ids, 5), keyframes=None)
    built = [tokenizer.decode(tokens[1]), tokenizer.decode(tokens[1])[::-1]]
    result = novelty([tokens[1], turned], built, database, matrix, tokenizer)
    assert result["nearest"][0] == database.labels[1] and result["library"] == len(tokens)
    assert result["copies"] == 0.5 and result["tm_score"] < 0.95
    alone = novelty(tokens[1:2], built[:1], database, matrix, tokenizer)
    assert alone["tm_score"] > 0.99 and alone["novel"] == 0 and alone["copies"] == 1


def test_one_chain_is_one_cluster_and_broken_ones_are_none(tokenizer, chains):
    whole = [chain for chain in chains if is_valid(soundness(chain))][:3]
    assert len(whole) == 3
    same = diversity([whole[0]] * 3)
    assert same["tm_score"] > 0.99 and same["clusters"] == 1
    various = diversity(whole)
    assert various["tm_score"] < 0.9 and various["clusters"] > 1
    squeezed = [moved(chain, chain.coords * 0.5) for chain in whole]
    assert diversity([*whole, *squeezed])["clusters"] == various["clusters"]
    assert diversity(whole[:1]) == {"clusters": 1}


@pytest.mark.parametrize("keyframes", [0, 8])
def test_controls_are_as_long_as_samples_and_made_by_the_same_decoder(tokenizer, chains, tmp_path, keyframes):
    whole = [chain for chain in chains if chain.mask.all()]
    path = tmp_path / "t.parquet"
    files.save(tokenizer.encode_batch(whole, keyframes=keyframes), path)
    corpus = read_corpus(path)
    lengths = [40, 39, 38]
    tokens, native = controls(corpus, tokenizer, lengths, whole[:2])
    assert [len(t) for t in tokens["markov"]] == lengths and len(native) == 2
    for chain, mixed, real in zip(tokens["decoded"], tokens["shuffled"], native, strict=True):
        assert sorted(chain.ids) == sorted(mixed.ids) and (chain.ids != mixed.ids).any()
        assert len(chain) == len(real) and (chain.keyframes is None) == (keyframes == 0)
    markov = Markov.of([corpus.tokens(i) for i in range(len(corpus))])
    letters, codes = np.sum([markov.bits(chain) for chain in tokens["decoded"]], 0)
    drawn = np.sum([markov.bits(chain) for chain in tokens["shuffled"]], 0)
    assert letters < drawn[0] and (codes > 0) == (keyframes > 0)
    with pytest.raises(ProtokError, match="no unbroken chain of 400 to 400"):
        controls(corpus, tokenizer, [400], whole)


def test_bars_are_met_by_native_chains_and_not_by_noise(chains):
    whole = [chain for chain in chains if is_valid(soundness(chain))]

    def likelihood(backbone):
        return -soundness(backbone)["compactness"]

    good = summary(whole, likelihood) | {"diversity": {"clusters": 60}, "novelty": {"copies": 0.1}}
    shaken = [moved(c, c.coords * 1.5) for c in whole]
    bad = summary(shaken, likelihood) | {"diversity": {"clusters": 0}, "novelty": {"copies": 0.3}}
    rows = bars({"samples": good, "decoded": good, "shuffled": bad, "native": good})
    assert all(row["met"] for row in rows) and len(rows) == 12
    rows = bars({"samples": bad, "decoded": good, "shuffled": bad})
    assert [row["met"] for row in rows].count(False) >= 6
    rows = bars({"samples": summary(whole), "decoded": good, "shuffled": bad})
    assert [row["met"] for row in rows][-3:] == [None] * 3


def test_samples_become_tokens_that_know_their_codebook(tokenizer):
    layout = Layout(tokenizer.codebook, 64, condition="sequence", labels=("A", "X"))
    first, second = as_tokens(layout, [np.arange(4), np.arange(3)], [Request("AAGA"), Request()])
    assert (first.sequence, second.sequence, second.name) == ("AAGA", "XXX", "sample-0002")
    assert decoder(tokenizer, layout) is tokenizer
    with pytest.raises(CodebookMismatch, match="other@0"):
        decoder(tokenizer, replace(layout, codebook="other@0"))
    assert code_use([np.array([0, 0, 1, 1, -1])], 4) == {"usage": 0.5, "perplexity": 2.0}


def over_blocks(tokenizer, longest=64):
    """A prior of random weights over letters and keyframes each 8."""
    words = Vocabulary.of(tokenizer.encode(protok.read(ROOT / "data" / "7w89.A.pdb"), keyframes=8))
    rows = {"arrangement": words.layout, "spacing": 8, "motions": words.motions}
    layout = Layout(words.codebook, len(words) - 6, longest=longest, lengths=(40,), **rows)
    torch.manual_seed(0)
    return Prior(PriorConfig("blocks", layers=1, width=16, heads=2), layout)


@pytest.mark.parametrize("particles", [0, 4])
def test_a_part_that_is_told_is_kept_with_its_keyframes(tokenizer, chains, particles):
    made, piece = over_blocks(tokenizer), chains[2][np.arange(20)]
    tokens = tokenizer.encode(piece, keyframes=8)
    told = fixed(made.layout, tokens, 16, 50)
    assert len(told) == 20 + 1  # of two whole blocks, the first begins the part
    steering = Geometry(tokenizer, made.layout, particles) if particles else None
    codes = sample(made, [Request(length=50, fixed=told)], steering=steering)
    (chain,) = as_tokens(made.layout, codes, [Request()], first=6)
    assert chain.name == "sample-0007" and len(chain) == 50
    assert (chain.ids[16:36] == tokens.ids).all()
    assert chain.keyframes.code[3] == tokens.keyframes.code[1]
    for at, length, message in ((12, 50, "put it at 9 or 17"), (40, 50, "residues 41 to 60 of 50")):
        with pytest.raises(ProtokError, match=message):
            fixed(made.layout, tokens, at, length)
    gap = replace(tokens, keyframes=None, ids=np.where(np.arange(20) == 3, -1, tokens.ids))
    with pytest.raises(ProtokError, match="has gaps"):
        fixed(made.layout, gap, 16, 50)


def test_steered_chains_are_likelier_to_be_proteins(tokenizer):
    made = over_blocks(tokenizer)
    worth = []
    for particles in (0, 12):
        steering = Geometry(tokenizer, made.layout, particles) if particles else None
        codes = sample(made, [Request(length=48)] * 4, steering=steering)
        weigh = Geometry(tokenizer, made.layout)
        worth.append(weigh.log_weights(codes, [48] * 4, np.full((4, 2), 0.2)).mean())
    assert worth[1] > worth[0] + 1
    with pytest.raises(ProtokError, match="come first lie nowhere"):
        Geometry(tokenizer, replace(made.layout, arrangement="keyframes-first"))


def test_weights_are_those_of_native_chains(chains):
    whole = next(chain for chain in chains if chain.mask.all()).coords[:, 1].astype(float)
    aim, n = elements(whole), len(whole)
    native = log_weight(whole, n, aim)
    assert log_weight(whole * 2.0, n, aim) < native - 3  # too wide
    assert log_weight(whole * 0.6, n, aim) < native - 20  # clashes
    assert log_weight(whole, n, aim + 0.2) < native - 5  # less helix and strand than was wanted
    mirrored = log_weight(whole * [-1, 1, 1], n, aim)
    assert mirrored == pytest.approx(native), "distances alone: handedness is the codes' own"


def test_early_looks_weigh_less(chains):
    ca = next(chain for chain in chains if chain.mask.all()).coords[:, 1].astype(float)
    for begun in (ca, ca[: len(ca) // 2]):
        off = measures(begun) - FACTORS @ terms(begun, len(ca))
        alone = log_weight(begun, len(ca), elements(begun)) / (off @ PRECISION @ off / 2)
        assert len(contacts(begun, 3.6)) == 0 and alone == pytest.approx(-60 * (len(begun) / len(ca)) ** 2)


@pytest.mark.parametrize(("reach", "apart"), [(3.6, 3), (8.0, 3), (6.0, 4)])
def test_contacts_are_those_of_all_distances(chains, reach, apart):
    for chain in chains:
        ca = chain.coords[chain.mask][:, 1].astype(float)
        near = np.linalg.norm(ca[:, None] - ca, axis=-1) < reach
        assert {*map(tuple, contacts(ca, reach, apart))} == {*map(tuple, np.argwhere(np.tril(near, -apart)))}
    assert contacts(ca[:2], reach, apart).shape == (0, 2)


def test_elements_are_those_of_p_sea(chains):
    for chain in chains:
        whole = chain[chain.mask]
        kinds = secondary_structure(whole)
        shares = elements(whole.coords[:, 1].astype(float))
        assert shares == pytest.approx([(kinds == kind).mean() for kind in "ab"], abs=0.15)


def test_sampling_that_was_stopped_goes_on(tokenizer, tmp_path, monkeypatch, capsys):
    from protok.cli import prior as commands

    made = str(over_blocks(tokenizer).save_pretrained(tmp_path / "p"))
    monkeypatch.setattr(commands, "TOGETHER", 2)

    def drawn(out, *options):
        return main.main(["prior", "sample", made, "-o", str(tmp_path / out), "--length", "20", *options])

    assert drawn("whole", "-n", "5") == 0
    write, calls = commands._write_backbones, []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(commands, "_write_backbones", stopped)
    assert drawn("part", "-n", "5") == 130
    assert len(files.load(tmp_path / "part" / "tokens.parquet")) == 2
    assert drawn("part", "-n", "5") == 0 and len(calls) == 4
    both = [files.load(tmp_path / out / "tokens.parquet") for out in ("whole", "part")]
    assert all((a.ids == b.ids).all() and a.name == b.name for a, b in zip(*both, strict=True))
    assert len(json.loads((tmp_path / "part" / "samples.json").read_text())["samples"]) == 5
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "samples.json").write_text("[")
    assert drawn("torn", "-n", "1") == 2 and "does not say what was drawn" in capsys.readouterr().err
    assert drawn("part", "-n", "5", "--seed", "1") == 2
    assert "drawn otherwise" in capsys.readouterr().err
    kept = ["--keep", str(ROOT / "data" / "7w89.A.pdb"), "--at", "9", "--length", "20"]
    assert main.main(["prior", "sample", made, "-o", str(tmp_path / "kept"), "-n", "1", *kept]) == 2
    assert "ask for longer chains" in capsys.readouterr().err


def test_classes_of_chains_are_by_helix_and_strand(tokenizer, encoded, tmp_path, capsys):
    out = tmp_path / "classes.tsv"
    assert main.main(["prior", "classes", str(encoded), "-o", str(out)]) == 0
    assert "4 chains in" in capsys.readouterr().err
    table = read_classes(out)
    assert {*table} == {chain.name for chain in files.load(encoded)}
    assert {*table.values()} <= {"helix", "strand", "mixed", "little"} and len({*table.values()}) > 1


def test_a_store_is_encoded_as_its_chains_are(tokenizer, chains, tmp_path, capsys):
    store, out = tmp_path / "store.parquet", tmp_path / "tokens.parquet"
    write_store(chains, store)
    assert main.main(["encode", str(store), "-o", str(out)]) == 0
    assert f"{len(chains)} chains" in capsys.readouterr().err
    loaded = files.load(out)
    assert [chain.name for chain in loaded] == [chain.name for chain in chains]
    # A store rounds coordinates to hundredths of an Å.
    equal = [(a.ids == b.ids).mean() for a, b in zip(loaded, tokenizer.encode_batch(chains), strict=True)]
    assert np.mean(equal) > 0.9 and all(chain.environment is not None for chain in loaded)
    assert main.main(["encode", str(store), "-o", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main.main(["encode", str(out), "-o", str(tmp_path / "x.parquet")]) == 2
    assert "not a structure store" in capsys.readouterr().err
    each8 = tmp_path / "each8.parquet"
    assert main.main(["encode", str(store), "-o", str(each8), "--keyframes", "8", "--shapes-only"]) == 0
    assert all(c.keyframes.spacing == 8 and c.environment is None for c in files.load(each8))


def test_samples_are_compared_with_training_chains_as_they_are(tokenizer, encoded, monkeypatch):
    layout = read_corpus(encoded, layout="letters").layout(PriorDataConfig(layout="letters"))
    made, asked = Prior(PriorConfig("letters", layers=1, width=16, heads=2), layout), [Request(length=40)] * 2
    seen = []
    monkeypatch.setattr("protok.prior.judge.novelty", lambda t, b, database, *_: seen.append(database) or {})
    score_chains(made, tokenizer, asked, sample(made, asked), encoded)
    assert len(seen) == 1 and all(chain.keyframes is not None for chain in seen[0].chains)


@pytest.mark.slow
def test_backbones_by_the_command_line(encoded, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    options = [f"--set={key}={value}" for key, value in TINY.items()]
    train = ["prior", "train", "--tokens", str(encoded), "--out", str(run), *options]
    assert main.main([*train, "--set", "data.condition=length"]) == 0
    model = str(run / "model")
    capsys.readouterr()
    drawing = ["prior", "sample", model, "-n", "2", "-o", str(out), "--length", "12", "9"]
    assert main.main([*drawing, "--json", "--seed", "3"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [row["length"] for row in summary["samples"]] == [12, 9] and summary["seed"] == 3
    assert [len(chain) for chain in files.load(out / "tokens.parquet")] == [12, 9]
    back = protok.read(out / "sample-0001.pdb")
    assert len(back) == 12 and back.mask.all()
    assert summary == json.loads((out / "samples.json").read_text())

    assert main.main(["prior", "score", model, "--tokens", str(encoded), "-n", "2", "--length", "40"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [*summary["sets"]] == ["samples", "decoded", "shuffled", "markov"]
    assert summary["sets"]["samples"]["chains"] == 2
    assert 0 < summary["sets"]["samples"]["novelty"]["tm_score"] <= 1 and len(summary["bars"]) == 12
    assert main.main(["prior", "info", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["train_records"] > 2
    assert main.main(["prior", "sample", model, "-o", str(out), "--class", "cat"]) == 2
    assert "--class do not fit" in capsys.readouterr().err


def picture_model(folder):
    torch.manual_seed(0)
    codebook = CodebookConfig(inner="residual", size=8, dim=4, levels=2)
    config = ImageConfig("small", 8, 4, 8, 8, (1, 1), quantizer=codebook)
    return ImageTokenizer(ImageNetwork(config).eval()).save_pretrained(folder)


def test_pictures_by_the_command_line(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for i in range(12):
        small = Image.fromarray(rng.integers(0, 256, (3, 4, 3)).astype(np.uint8))
        x = np.asarray(small.resize((32, 24), Image.BICUBIC))
        write_pixels(x, tmp_path / "in" / "ab"[i % 2] / f"{i}.png")
    model, codes, run = str(picture_model(tmp_path / "m")), tmp_path / "c.npz", tmp_path / "run"
    encode = ["image", "encode", str(tmp_path / "in"), "-o", str(codes), "--model", model]
    assert main.main([*encode, "--square", "--mirror"]) == 0
    tokens = load_codes(codes)
    assert len(tokens) == 24 and {t.ids.shape for t in tokens} == {(3, 3, 2)}
    assert tokens[1].name == tokens[0].name + "-mirrored"
    options = [f"--set={key}={value}" for key, value in TINY.items()]
    train = ["prior", "train", "--tokens", str(codes), "--out", str(run), *options]
    assert main.main([*train, "--set", "data.condition=class"]) == 0
    prior, out = str(run / "model"), tmp_path / "out"
    drawing = ["prior", "sample", prior, "-n", "3", "-o", str(out), "--tokenizer", model]
    assert main.main([*drawing, "--class", "b", "--guidance", "1"]) == 0
    assert len(load_codes(out / "codes.npz")) == 3
    assert read_pixels(out / "b" / "sample-0001.png").shape == (24, 24, 3)
    assert read_pixels(out / "sheet.png").shape[1] > 3 * 90
    capsys.readouterr()
    scoring = ["prior", "score", prior, "--tokens", str(codes), "-n", "4", "--tokenizer", model]
    assert main.main([*scoring, "--images", str(tmp_path / "in")]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["likeness"]["frechet_gist"] > 0 and 0 < scores["repetition"] <= 1
    assert "fid" not in json.dumps(scores).lower()
    assert main.main([*drawing, "--length", "4"]) == 2
    assert main.main(["prior", "sample", prior, "-o", str(out)]) == 2
    assert "no model of that name is known" in capsys.readouterr().err
    decoding = ["image", "decode", str(codes), "-o", str(out), "--model", model]
    for command in (encode, decoding, drawing):
        assert main.main([*command, "--device", "nonsense"]) == 2
        assert "no device 'nonsense'" in capsys.readouterr().err


def test_learned_by_heart_is_seen(tmp_path):
    tok = ImageTokenizer.from_pretrained(picture_model(tmp_path / "m"))
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (6, 24, 24, 3)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=x)
    pictures = open_pictures(tmp_path / "x.npz")
    from protok.image import save_codes

    corpus = read_corpus(save_codes(tok.encode_batch(x), tmp_path / "c.npz"))
    assert corpus.layout(PriorDataConfig()).grid == (3, 3, 2)
    assert repetition(corpus.codes[:2], corpus) == 1.0
    other = [(ids + 1) % 8 for ids in corpus.codes[:2]]
    assert repetition(other, corpus) < 1.0
    assert frechet(x, x)["frechet_gist"] == pytest.approx(0, abs=0.05)
    near, far = np.clip(x.astype(int) + 3, 0, 255), np.full_like(x, 9)
    near_distance, far_distance = (
        likeness(y.astype(np.uint8), pictures, tok)["frechet_gist"] for y in (near, far)
    )
    assert near_distance < far_distance
    with pytest.raises(ValueError, match="too few or too small"):
        frechet(x[:1], x)


def test_images_of_collections_are_encoded_by_class(tmp_path):
    import io

    from protok.image.dataset import find_images

    held = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(held, "PNG")
    raw = np.frombuffer(held.getvalue(), np.uint8)
    n = len(raw)
    parts = {"bytes": np.tile(raw, 2), "off": np.array([0, n, 2 * n]), "y": np.array([1, 0])}
    both = {f"{part}_{k}": v for part in ("train", "valid") for k, v in parts.items()}
    np.savez(tmp_path / "two.npz", wnids=np.array(["n01", "n02"]), **both)
    images = find_images([tmp_path / "two.npz"], "valid")
    assert [image.name for image in images] == ["n02/two-valid-00000", "n01/two-valid-00001"]
    model, out = str(picture_model(tmp_path / "m")), tmp_path / "c.npz"
    encode = ["image", "encode", str(tmp_path / "two.npz"), "-o", str(out), "--model", model]
    assert main.main(encode) == 0
    assert read_corpus(out).classes == ["n02", "n01"]


def test_a_prior_over_other_codes_is_refused(tmp_path, encoded, tokenizer):
    layout = Layout("other@0", 64, longest=40, lengths=(5,))
    made = Prior(PriorConfig(layers=1, width=16, heads=2), layout)
    with pytest.raises(CodebookMismatch, match="other@0"):
        score_chains(made, tokenizer, [Request()], [np.arange(3)], encoded)
    with pytest.raises(ProtokError, match="codes chains"):
        from protok.prior.images import as_tokens as as_image_tokens

        as_image_tokens(layout, [np.arange(3)], [Request()])
    with pytest.raises(FormatError, match="not a prior"):
        Prior.from_pretrained(ROOT / "protok" / "weights" / "protok-1")


@pytest.mark.slow
def test_the_benchmark_measures_each_setting_once(encoded, tokenizer, tmp_path, monkeypatch):
    from benchmarks import records
    from benchmarks.quantizers import prior_samples as samples

    layout = Layout(tokenizer.codebook, 64, condition="length", longest=48, labels=("16", "32", "48"))
    layout = replace(layout, lengths=(39, 40))
    torch.manual_seed(0)
    made = Prior(PriorConfig("small", layers=1, width=16, heads=2), layout)
    folder, out = made.save_pretrained(tmp_path / "p"), tmp_path / "out.parquet"
    recipe = tmp_path / "samples.toml"
    recipe.write_text("[chains.plain]\nlength = 40\n[images.other]\ntemperature = 2.0\n")
    options = [str(folder), "--tokens", str(encoded), "-n", "2", "-o", str(out)]
    samples.main([*options, "--recipe", str(recipe), "--jobs", "2", "--drawn", str(tmp_path / "drawn")])
    record = records.read(out)["small"]
    assert [*record["settings"]] == ["plain"] and record["codebook"] == tokenizer.codebook
    assert record["settings"]["plain"]["sets"]["samples"]["chains"] == 2
    asked = requests(made, 2, lengths=[40])
    plain = samples.draw(folder, "protok-1", {"length": 40}, None, (0, asked))
    with monkeypatch.context() as without:
        without.setattr("protok.prior.sampling.sample", None)
        (drawn,) = (tmp_path / "drawn").iterdir()
        kept = samples.draw(folder, "protok-1", {"length": 40}, drawn, (0, asked))
        with pytest.raises(TypeError):
            samples.draw(folder, "protok-1", {"temperature": 2.0}, drawn, (0, asked))
    assert drawn.name == samples.made_by(folder, "protok-1") != samples.made_by(folder, "protok-image")
    assert all(np.array_equal(a, b) for a, b in zip(plain, kept, strict=True))
    recipe.write_text(recipe.read_text() + "[chains.sharp]\nlength = 40\ntop_p = 0.5\n")
    out.unlink()
    made_controls = []
    with monkeypatch.context() as counted:
        counted.setattr(evaluate, "controls", lambda *own: made_controls.append(1) or controls(*own))
        samples.main([*options, "--recipe", str(recipe)])
    assert len(made_controls) == 1
    first, second = (of["sets"] for of in records.read(out)["small"]["settings"].values())
    assert first.keys() == second.keys() and first["samples"] != second["samples"]
    assert all(first[name] == second[name] for name in first.keys() - {"samples"})
    monkeypatch.setattr(samples, "measure", None)
    samples.main([*options, "--recipe", str(recipe)])
