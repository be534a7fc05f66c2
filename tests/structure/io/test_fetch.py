"""Structures by their ids, from a server on the loopback that serves real files; no other is asked."""

import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import protok
from protok.cli.main import main
from protok.errors import ProtokError
from protok.structure.io.fetch import Servers, fetch_all


@contextmanager
def serving(pages):
    """A server of `pages` (bytes; a number as its answer; promised length and bytes), and its log."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            page = pages.get(self.path, 404)
            if isinstance(page, int):
                return self.send_error(page)
            length, content = page if isinstance(page, tuple) else (len(page), page)
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def options(address: str) -> list[str]:
    return ["--pdb", f"{address}/download/{{id}}.cif.gz", "--alphafold", f"{address}/api/{{id}}"]


def test_entries_of_both_are_fetched_once_and_encode(shared, tmp_path, capsys):
    entry = shared("parsing/cross_format/1dix.cif").read_bytes()
    model = shared("parsing/cross_format/3o5r.cif").read_bytes()
    pages = {"/download/1dix.cif.gz": gzip.compress(entry), "/files/AF-P69905-F1-model_v6.cif": model}
    out = tmp_path / "structures"
    with serving(pages) as (address, asked):
        files = ("AF-P69905-2-F1-model_v6.cif", "AF-P69905-F1-model_v6.cif")
        listed = [{"entryId": file, "cifUrl": f"{address}/files/{file}"} for file in files]
        pages["/api/P69905"] = json.dumps(listed[1:] + listed[:1]).encode()
        assert main(["fetch", "1DIX", "AF-P69905", "-o", str(out), *options(address)]) == 0
        assert asked == ["/download/1dix.cif.gz", "/api/P69905", "/files/AF-P69905-F1-model_v6.cif"]
        printed = capsys.readouterr().out.split()
        assert main(["fetch", "1dix", "AF-P69905-F1", "-o", str(out), *options(address)]) == 0
        assert len(asked) == 3, "what is there is not fetched again"
    assert printed == [str(out / "1dix.cif.gz"), str(out / "AF-P69905-F1-model_v6.cif")]
    assert (out / "AF-P69905-F1-model_v6.cif").read_bytes() == model
    assert len(protok.read(out / "1dix.cif.gz")) == 208


def test_what_fails_costs_itself_and_leaves_no_file(shared, tmp_path, capsys):
    entry = gzip.compress(shared("parsing/cross_format/1dix.cif").read_bytes())
    pages = {
        "/download/1dix.cif.gz": entry,
        "/download/2dix.cif.gz": (len(entry) + 10, entry),
        "/download/3dix.cif.gz": entry[:-100],
        "/download/4dix.cif.gz": 503,
        "/download/4gxy.cif.gz": shared("parsing/cross_format/4gxy.cif").read_bytes(),
        "/api/P00000": b"<html>",
        "/api/P00001": b"[]",
        "/api/P00002": 404,
    }
    ids = "2dix 3dix 4dix 5dix 4gxy AF-P00000 AF-P00001 AF-P00002 ../1dix hello 1dix".split()
    with serving(pages) as (address, asked):
        assert main(["fetch", *ids, "-o", str(tmp_path / "out"), *options(address)]) == 1
        assert len(asked) == 9
    captured = capsys.readouterr()
    messages = [line.removeprefix("protok: error: ") for line in captured.err.splitlines()]
    expected = (
        "2dix: 127.0.0.1", "3dix: the compressed stream ends early", "4dix: 127.0.0.1", "5dix: 127.0.0.1",
        "4gxy: holds no protein residue", "AF-P00000: http", "AF-P00001: AlphaFold DB has no model",
        "AF-P00002: 127.0.0.1", "../1dix: is no id", "hello: is no id",
    )  # fmt: skip
    assert all(message.startswith(start) for message, start in zip(messages, expected, strict=True)), messages
    assert "could not be reached" in messages[0] and "answered 503" in messages[2]
    assert "has no such entry" in messages[3] and "check the id" in messages[3]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1dix.cif.gz"]


def test_without_a_network_the_message_says_so(tmp_path):
    with serving({}) as (address, _):
        pass
    ((name, error),) = fetch_all(["1aki"], tmp_path, Servers(pdb=f"{address}/{{id}}"))
    assert name == "1aki" and isinstance(error, ProtokError)
    assert "could not be reached" in str(error) and "check the network" in str(error)
