"""The same jobs on Ray: stages, dead workers, resuming."""

import os
import shutil
import time
from pathlib import Path

import pytest

from protok.errors import ProtokError
from protok.pipeline.encode import Stopped, encode_all
from protok.pipeline.ray import Cluster
from protok.tokens.files import load
from tests.helpers.paths import ROOT
from tests.helpers.tiny import Tiny, TinyBatch

ray = pytest.importorskip("ray", reason="needs ray")
# Ray forks with threads, and leaves sockets to be collected.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def local():
    """One cluster for all tests; its workers find the tokenizers of these tests."""
    path = os.pathsep.join([str(ROOT), str(ROOT)])
    path = os.pathsep.join([path, *filter(None, [os.environ.get("PYTHONPATH")])])
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def pdbs(pieces) -> Path:
    return pieces(12)


@pytest.mark.parametrize("tokenizer", [TinyBatch(), "protok-1"], ids=["tiny", "protok-1"])
def test_equals_the_local_engine(tokenizer, pdbs, tmp_path):
    (pdbs / "s12.pdb").write_text("nothing\n")
    cluster = Cluster(readers=2, encoders=2)
    summary = encode_all(pdbs, tokenizer, tmp_path / "a.parquet", ray=cluster)
    encode_all(pdbs, tokenizer, tmp_path / "b.parquet")
    assert (summary.files, summary.chains, summary.failed) == (13, 12, 1)
    for tokens, other in zip(load(tmp_path / "a.parquet"), load(tmp_path / "b.parquet"), strict=True):
        assert tokens.name == other.name and (tokens.ids == other.ids).all()
        if tokenizer == "protok-1":
            assert tokens.keyframes.text == other.keyframes.text


def test_dead_workers_cost_their_own_rows(pdbs, tmp_path):
    shutil.copy(pdbs / "s05.pdb", pdbs / "killer.pdb")
    shutil.copy(pdbs / "s05.pdb", pdbs / "hanger.pdb")
    summary = encode_all(pdbs, Tiny(), tmp_path / "tokens", ray=Cluster(), timeout=25)
    assert {path.suffix for path in (tmp_path / "tokens").iterdir()} == {".parquet"}
    assert [tokens.name for tokens in load(tmp_path / "tokens")] == [f"s{n:02}" for n in range(12)]
    reasons = {Path(file).stem: reason for file, _, reason in summary.errors}
    assert set(reasons) == {"killer", "hanger"}
    assert "failed" in reasons["killer"] and "longer than 25 s" in reasons["hanger"]


def test_a_stopped_job_goes_on(pdbs, tmp_path):
    log, out = tmp_path / "log", tmp_path / "t.parquet"
    (pdbs / "s12.pdb").write_text("nothing\n")
    with pytest.raises(Stopped):
        encode_all(pdbs, Tiny(log), out, ray=Cluster(), on_error="stop")
    (pdbs / "s12.pdb").unlink()
    before = len(log.read_text().split())
    summary = encode_all(pdbs, Tiny(log), out, ray=Cluster())
    assert summary.resumed >= 1
    assert len(log.read_text().split()) - before == 12 - summary.resumed
    assert [tokens.name for tokens in load(out)] == [f"s{n:02}" for n in range(12)]


def test_no_cluster_there(pdbs, tmp_path):
    ray.shutdown()
    began = time.monotonic()
    with pytest.raises(ProtokError, match="no Ray cluster at 127.0.0.1:1"):
        encode_all(pdbs, Tiny(), tmp_path / "t.parquet", ray=Cluster(address="127.0.0.1:1"))
    assert time.monotonic() - began < 60, "Ray itself tries for minutes"
