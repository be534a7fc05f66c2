"""Tokens and models in the hands of other libraries: one example each."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import protok
from protok.analysis.features import CodeCounts
from protok.cli.main import main
from protok.common.checkpoint import WEIGHTS
from protok.common.extras import MissingExtra
from protok.common.hub import parse
from protok.errors import CodebookMismatch, FormatError, Unsupported
from protok.image import ImageTokenizer
from protok.tokens.files import save


@pytest.fixture(scope="module")
def tokenizer():
    return protok.load("protok-1")


@pytest.fixture(scope="module")
def structures(examples):
    return [protok.read(file) for file in sorted(examples.glob("*.pdb"))]


@pytest.fixture(scope="module")
def tokens(tokenizer, structures):
    return [tokenizer.encode(backbone) for backbone in structures]


# Objects of other libraries in every verb


@pytest.mark.parametrize("kind", ["biotite", "biopython", "pyg", "path"])
def test_every_verb_takes_objects_of_others(kind, tokenizer, structures, examples, tmp_path):
    from protok.structure.io import interop

    backbone = structures[0]
    if kind == "path":
        structure = examples / f"{backbone.name}.pdb"
    else:
        if kind != "biotite":
            pytest.importorskip({"biopython": "Bio", "pyg": "torch_geometric"}[kind])
        structure = getattr(interop, f"to_{kind}")(backbone)
    codes = tokenizer.encode(structure)
    assert (codes.ids == tokenizer.encode(backbone).ids).all()
    assert (protok.load("3di").encode(structure).ids == protok.load("3di").encode(backbone).ids).all()
    assert np.array_equal(tokenizer.embed(structure), tokenizer.embed(backbone), equal_nan=True)
    back = tokenizer.decode(codes)
    assert protok.compare(back, structure) == protok.compare(back, backbone)
    assert protok.rmsd(structure, structure) < 1e-3 and protok.lddt(structure, backbone) == 1
    assert protok.tm_score(structure, backbone) > 0.999
    protok.write(structure, tmp_path / "out.pdb")
    assert (protok.read(tmp_path / "out.pdb").index == backbone.index).all()
    with pytest.raises(TypeError, match="cannot make a Backbone of a builtins.dict"):
        protok.rmsd({}, backbone)


# Hugging Face


def test_nothing_is_downloaded_without_hf(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FormatError, match="no model 'someone/model'"):
        protok.load("someone/model")
    with pytest.raises(MissingExtra, match="needs huggingface_hub; .*, or give a folder"):
        protok.load("hf:someone/model")
    for name in ("hf:model", "hf:a/b/c", "hf:../x", "hf:a/..", "hf:a/b@", "hf:a/b@../c", "hf:"):
        with pytest.raises(FormatError, match="write hf:owner/name"):
            protok.load(name)
    assert parse("hf:a/b@v1.0") == ("a/b", "v1.0") and parse("hf:a/b") == ("a/b", None)


def test_a_model_of_the_hubs_cache_is_loaded_without_network(tokenizer, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    from huggingface_hub import constants

    # The layout that huggingface_hub keeps: a snapshot a commit, and what a branch stands at.
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "models--someone--mine"
    tokenizer.save_pretrained(home / "snapshots" / commit)
    pictures = ImageTokenizer.from_pretrained("protok-image")
    pictures.save_pretrained(tmp_path / "models--someone--pictures" / "snapshots" / commit)
    for model in tmp_path.glob("models--*"):
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert protok.load("hf:someone/mine").codebook == tokenizer.codebook
    assert protok.load("hf:someone/mine").card == tokenizer.card != ""
    assert ImageTokenizer.from_pretrained("hf:someone/pictures").codebook == pictures.codebook
    with pytest.raises(Unsupported, match="does not give hf:someone/other"):
        protok.load("hf:someone/other")


def test_push_uploads_what_save_pretrained_writes(tokenizer, monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    seen = {}

    class Api(hub.HfApi):  # the same arguments, and no network
        def create_repo(self, repo_id, **options):
            seen.update(repo=repo_id, private=options["private"])

        def create_branch(self, repo_id, *, branch, exist_ok):
            seen.update(branch=branch)

        def upload_folder(self, *, folder_path, repo_id, revision, commit_message):
            seen["files"] = {path.name for path in Path(folder_path).iterdir()}
            seen["card"] = Path(folder_path, "README.md").read_text()
            seen.update(to=repo_id, revision=revision, message=commit_message)
            return SimpleNamespace(commit_url="done")

    monkeypatch.setattr(hub, "HfApi", Api)
    (tmp_path / "card.md").write_text("# mine")
    assert tokenizer.push_to_hub("someone/mine", card=tmp_path / "card.md") == "done"
    assert seen == {
        "repo": "someone/mine",
        "private": True,
        "files": {"config.json", "model.safetensors", "README.md"},
        "card": "# mine",
        "to": "someone/mine",
        "revision": None,
        "message": tokenizer.codebook,
    }
    images = ImageTokenizer.from_pretrained("protok-image")
    for model in (tokenizer, images):
        model.push_to_hub("hf:someone/mine@v1", private=False)
        assert seen["card"] == (WEIGHTS / model.name / "README.md").read_text("utf-8"), "its own card"
        assert (seen["branch"], seen["revision"], seen["private"]) == ("v1", "v1", False)
        assert seen["message"] == model.codebook


def test_token_files_are_data_sets(tokens, tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    save(tokens, tmp_path / "tokens.parquet")
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "tokens.parquet"), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert rows["name"] == [record.name for record in tokens]
    assert rows[1]["tokens"] == tokens[1].ids.tolist()
    assert rows[0]["codebook"] == tokens[0].codebook


def test_a_corpus_for_language_models(tokens, tmp_path, capsys):
    save(tokens, tmp_path / "tokens.parquet")
    assert main(["export", str(tmp_path / "tokens.parquet"), "-o", str(tmp_path / "lm")]) == 0
    written = (tmp_path / "lm" / "corpus.jsonl").read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["name"] for line in lines] == [record.name for record in tokens]
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "lm")
    from protok.tokens.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(tmp_path / "lm")
    for line, record in zip(lines, tokens, strict=True):
        assert loaded(line["text"])["input_ids"] == vocabulary.encode(record)
        assert (vocabulary.decode(loaded(line["text"])["input_ids"]).ids == record.ids).all()


# Sequence tools


def test_letters_for_sequence_tools(structures, tokens, tmp_path, capsys):
    letters = [protok.load("3di").encode(backbone) for backbone in structures]
    save(letters, tmp_path / "3di.parquet")
    out, aa = tmp_path / "3di.fasta", tmp_path / "aa.fasta"
    assert (
        main(["export", str(tmp_path / "3di.parquet"), "-o", str(out), "--letters", "--sequences", str(aa)])
        == 0
    )
    from biotite.sequence.io import fasta

    coded, plain = fasta.FastaFile.read(out), fasta.FastaFile.read(aa)
    assert list(coded) == list(plain) == [f"{backbone.name}_{backbone.chain[0]}" for backbone in structures]
    for backbone, three in zip(structures, letters, strict=True):
        header = f"{backbone.name}_{backbone.chain[0]}"
        assert coded[header] == three.letters.replace("-", "X")  # Foldseek's letters
        assert plain[header] == backbone.sequence
    save(tokens, tmp_path / "protok-1.parquet")
    assert main(["export", str(tmp_path / "protok-1.parquet"), "-o", str(out), "--letters"]) == 2
    assert "64 codes, and there are 20 letters" in capsys.readouterr().err


# PyG


def test_pyg_data_set(structures, tokens, tokenizer):
    pytest.importorskip("torch_geometric")
    import torch
    from torch_geometric.loader import DataLoader

    from protok.analysis.graphs import TokenGraphs

    data = TokenGraphs(structures, tokenizer, labels=[0.5, 1.5, 2.5, 3.5][: len(structures)])
    assert len(data) == len(structures) and data.codebook == tokenizer.codebook
    graph = data[1]
    assert graph.x[:, 0].tolist() == tokens[1].ids.tolist() and graph.y.item() == 1.5
    assert graph.name == structures[1].name and len(graph.index) == len(structures[1])
    # The sixteen nearest residues, by brute force.
    ca = structures[1].coords[:, 1]
    far = np.linalg.norm(ca[:, None] - ca, axis=-1)
    for i in (0, 7, len(ca) - 1):
        got = graph.edge_index[0][graph.edge_index[1] == i]
        assert set(got.tolist()) == set(np.argsort(far[i])[1:17].tolist())
    batch = next(iter(DataLoader(data, batch_size=len(data))))
    assert len(batch.x) == sum(map(len, structures)) == batch.num_nodes
    assert int(batch.edge_index.max()) < len(batch.x) and torch.equal(
        batch.ptr, torch.tensor(np.cumsum([0, *map(len, structures)]))
    )


# scikit-learn


def test_counts(tokens, tokenizer, structures):
    counts = CodeCounts(share=False).fit(tokens)
    table = counts.transform(tokens)
    assert table.shape == (len(tokens), 64) and table[0].sum() == (tokens[0].ids >= 0).sum()
    assert table[0, tokens[0].ids[5]] == (tokens[0].ids == tokens[0].ids[5]).sum()
    assert counts.get_feature_names_out()[7] == "s7"
    assert np.allclose(CodeCounts().fit_transform(tokens).sum(1), 1)
    pairs = CodeCounts(ngram=2, share=False).fit(tokens)
    assert pairs.transform(tokens)[0].sum() == (tokens[0].ids >= 0).sum() - 1
    first = f"s{tokens[0].ids[0]}_s{tokens[0].ids[1]}"
    assert first in pairs.get_feature_names_out()
    assert np.array_equal(CodeCounts("protok-1", share=False).fit_transform(structures), table)
    with pytest.raises(Unsupported, match="give Tokens"):
        CodeCounts().fit(structures)
    with pytest.raises(Unsupported, match="not fitted"):
        CodeCounts().transform(tokens)
    with pytest.raises(CodebookMismatch, match="3di"):
        counts.transform([protok.load("3di").encode(structures[0])])


def test_counts_in_a_pipeline(tokens):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.base import clone
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    helical = [0, 1] * 6
    proteins = [tokens[i % len(tokens)] for i in helical]
    model = make_pipeline(CodeCounts(), RidgeClassifier())
    search = GridSearchCV(model, {"codecounts__share": [True, False]}, cv=2)
    search.fit(proteins, helical)
    assert (search.predict(proteins) == helical).all()
    assert clone(CodeCounts(ngram=2)).ngram == 2
    assert len(model.fit(proteins, helical)[:-1].get_feature_names_out()) == 64
