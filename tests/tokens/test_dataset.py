"""Token files as a data set: every structure once, whoever reads, in an order that a seed decides."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from torch.utils.data import DataLoader

from protok.errors import CodebookMismatch, CorruptFile, FormatError, NoProtein, Unsupported
from protok.tokens import dataset
from protok.tokens.dataset import TokenDataset
from protok.tokens.files import Part, load, parts, save, scan
from protok.tokens.parquet import ParquetWriter
from protok.tokens.vocabulary import Vocabulary
from tests.tokens.test_layouts import STRUCTURES, make

N = 60


def alone(rows):
    return [row["name"] for row in rows]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """60 complexes of three chains in five Parquet files of three row groups, and a FASTA file."""
    folder = tmp_path_factory.mktemp("tokens")
    for number in range(5):
        with ParquetWriter(folder / f"{number}.parquet", rows=10) as out:
            for i in range(10 * number, 10 * number + 10):
                for chain in named(i).by_chain():
                    out.append(chain)
    save([named(i) for i in range(50, N)], folder / "last.fasta")
    return folder


def named(i):
    return replace(STRUCTURES["chains"], name=f"s{i}")


def every(files, **options):
    return TokenDataset([files / "*.parquet", files / "last.fasta"], **options)


def test_chains_of_a_structure_stay_in_a_row_group(files):
    (group, *rest) = parts(files / "0.parquet")
    assert group == Part(files / "0.parquet", 0) and len(rest) == 2
    assert [(t.name, str(t.chain[0])) for t in scan(group)] == [(f"s{i}", c) for i in range(4) for c in "ABC"]
    assert len(load(files / "0.parquet")) == 30
    assert parts(files / "last.fasta") == [Part(files / "last.fasta")]
    assert len(parts(files)) == 15


def test_rows_are_those_of_the_vocabulary(files):
    rows = list(every(files))
    assert alone(rows) == [f"s{i}" for i in range(N)]
    vocabulary = Vocabulary.of(STRUCTURES["chains"])
    assert every(files).vocabulary == vocabulary
    placed = vocabulary.placed(STRUCTURES["chains"])
    assert (rows[7]["input_ids"], rows[7]["residues"]) == (placed.ids, placed.residues)
    assert (rows[7]["chain"], rows[7]["sequence"]) == ("A,B,C", STRUCTURES["chains"].sequence)
    single = list(every(files, chains=True, layout="letters", pairs=True))
    assert len(single) == 3 * N and {row["chain"] for row in single} == {"A", "B", "C"}


@pytest.mark.parametrize(("seed", "count"), [(None, 2), (3, 5), (3, 17)])
def test_shares_are_the_whole(files, seed, count):
    rows = every(files, seed=seed)
    shares = [alone(rows.shard(number, count)) for number in range(count)]
    assert sorted(sum(shares, [])) == sorted(alone(rows))
    assert count == 17 or min(map(len, shares)) > 0
    inner = [alone(rows.shard(1, 2).shard(number, 3)) for number in range(3)]
    assert sorted(sum(inner, [])) == sorted(alone(rows.shard(1, 2)))
    with pytest.raises(ValueError, match="share 2 of 2"):
        rows.shard(2, 2)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_share_the_work_and_learn_of_the_epoch(files):
    rows = every(files, seed=0)
    loader = DataLoader(rows, batch_size=None, num_workers=2, persistent_workers=True)
    first = alone(loader)
    assert sorted(first) == sorted(f"s{i}" for i in range(N))
    assert alone(loader) == first
    rows.set_epoch(1)
    second = alone(loader)
    assert sorted(second) == sorted(first) and second != first


def test_the_order_follows_from_the_seed(files, monkeypatch):
    monkeypatch.setattr(dataset, "HELD", 16)
    order = alone(every(files, seed=0))
    assert order == alone(every(files, seed=0)) != alone(every(files, seed=1))
    assert sorted(order) == sorted(f"s{i}" for i in range(N))
    ranks = np.array([int(name[1:]) for name in order])
    assert abs(np.corrcoef(ranks, np.arange(N))[0, 1]) < 0.5
    assert (np.diff(ranks) == 1).mean() < 0.2, "parts are mixed"


@pytest.mark.parametrize("seed", [None, 3])
def test_an_iteration_goes_on_where_it_was(files, seed):
    rows = every(files, seed=seed)
    rows.set_epoch(2)
    whole = alone(rows)
    running = iter(rows)
    begun = [next(running)["name"] for _ in range(23)]
    state = pickle.loads(pickle.dumps(rows.state_dict()))
    again = every(files, seed=seed)
    again.load_state_dict(state)
    assert begun + alone(again) == whole
    assert alone(again) == whole, "the next iteration is a whole one"


def test_files_that_make_no_data_set_are_refused(files, tmp_path):
    with pytest.raises(FormatError, match="nowhere.parquet: no such token file"):
        TokenDataset(tmp_path / "nowhere.parquet")
    with pytest.raises(FormatError, match="no such token file"):
        TokenDataset(tmp_path)
    save([make([-1, -1], "AA")], tmp_path / "empty.csv")
    with pytest.raises(NoProtein, match="no residue has a code"):
        TokenDataset(tmp_path / "empty.csv")
    (tmp_path / "cut.parquet").write_bytes((files / "0.parquet").read_bytes()[:-30])
    with pytest.raises(CorruptFile, match="cut.parquet"):
        TokenDataset([files, tmp_path / "cut.parquet"])
    save([replace(named(1), keyframes=None)], tmp_path / "bare.csv")
    with pytest.raises(Unsupported, match="no keyframes for the layout blocks"):
        TokenDataset(tmp_path / "bare.csv", "blocks")
    mixed = TokenDataset([files, tmp_path / "bare.csv"])
    with pytest.raises(CodebookMismatch, match=r"bare\.csv, s1, chain A,B,C: no keyframes for"):
        list(mixed)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_hugging_face_datasets_reads_it(files, tmp_path):
    hugging = pytest.importorskip("datasets", reason="needs Hugging Face datasets")
    rows = every(files)
    stream = hugging.IterableDataset.from_generator(rows.rows, gen_kwargs={"parts": rows.parts})
    assert stream.num_shards == len(rows.parts)
    assert list(stream) == list(rows)
    mixed = alone(stream.shuffle(seed=1, buffer_size=10))
    assert sorted(mixed) == sorted(alone(rows)) and mixed != alone(rows)
    loader = DataLoader(stream.shuffle(seed=1), batch_size=None, num_workers=2)
    assert sorted(alone(loader)) == sorted(alone(rows))
    state = iter(stream)
    begun = [next(state)["name"] for _ in range(13)]
    kept = stream.state_dict()
    stream.load_state_dict(kept)
    assert begun + alone(stream) == alone(rows)
