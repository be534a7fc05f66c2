"""Structure files by their ids: the only code of protok that asks a network for structures.

Nothing calls it but `protok fetch` and whoever imports it.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from protok.common.files import atomic
from protok.errors import ProtokError, as_error
from protok.structure.io.read import read

#: Seconds without an answer after which a server is given up.
PATIENCE = 30.0
#: Bytes that a file may have.
MOST = 1 << 30
_PDB = re.compile(r"[1-9][a-z0-9]{3}|pdb_[a-z0-9]{8}", re.IGNORECASE)
_ALPHAFOLD = re.compile(r"AF-([A-Z0-9]{6,10})(?:-F1)?(?:-model_v\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Servers:
    """Where files are fetched from.

    Attributes
    ----------
    pdb : str
        Address of an entry, with its id for ``{id}``.
    alphafold : str
        Address of what AlphaFold DB tells of a UniProt accession, ``{id}``, which names the file.
    """

    pdb: str = "https://files.rcsb.org/download/{id}.cif.gz"
    alphafold: str = "https://alphafold.ebi.ac.uk/api/prediction/{id}"


def fetch_all(
    ids: Iterable[str], folder: str | Path, servers: Servers | None = None
) -> Iterator[tuple[str, Path | ProtokError]]:
    """Fetch structure files one by one; one that fails costs itself.

    Parameters
    ----------
    ids
        Of PDB entries (``1aki``, ``pdb_00001aki``), and of AlphaFold DB ``AF-`` with a UniProt
        accession (``AF-P69905``).
    folder
        Where files go, made if needed. A file that is there is not fetched again.
    servers
        Where from.

    Yields
    ------
    id, path or error
        ``<id>.cif.gz`` of the PDB, ``AF-<accession>-F1-model_v<version>.cif`` of AlphaFold DB. What was
        fetched has been read: it is whole, and holds protein.
    """
    folder, servers = Path(folder), servers or Servers()
    for name in ids:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            yield name, _fetch(name.strip(), folder, servers)
        except Exception as error:
            yield name, as_error(error, name)


def _fetch(name: str, folder: Path, servers: Servers) -> Path:
    alphafold = _ALPHAFOLD.fullmatch(name)
    if alphafold:
        accession = alphafold[1].upper()
        known = sorted(folder.glob(f"AF-{accession}-F1-model_v*.cif"))
        if known:
            return known[-1]
        address = _alphafold_file(servers.alphafold.format(id=accession))
        path = folder / re.sub(r"[^\w.-]", "-", address.rpartition("/")[2])
    elif _PDB.fullmatch(name):
        path = folder / f"{name.lower()}.cif.gz"
        address = servers.pdb.format(id=name.lower())
    else:
        raise ProtokError("is no id of the PDB or of AlphaFold DB", "give ids such as 1aki, or AF-P69905")
    if not path.exists():
        data = _get(address)
        read(path, data=data)
        with atomic(path, "wb") as handle:
            handle.write(data)
    return path


def _alphafold_file(address: str) -> str:
    """Address of the mmCIF file of a whole chain, of what AlphaFold DB has of it."""
    try:
        entries = json.loads(_get(address))
        files = [str(entry["cifUrl"]) for entry in entries]
    except (ValueError, LookupError, TypeError) as error:
        if isinstance(error, ProtokError):
            raise
        raise ProtokError(f"{address} gave no list of models ({error})", "look at it in a browser") from error
    whole = [file for file in files if re.search(r"-F1-model_v\d+\.cif$", file)]
    if not whole:
        raise ProtokError("AlphaFold DB has no model of the whole chain", "look for its fragments there")
    return whole[0]


def _get(address: str) -> bytes:
    request = Request(address, headers={"User-Agent": "protok"})
    host = request.host or address
    try:
        with urlopen(request, timeout=PATIENCE) as answer:
            data = answer.read(MOST + 1)
            if answer.length and len(data) <= MOST:  # what the server promised, and did not send
                raise http.client.IncompleteRead(data, answer.length)
    except HTTPError as error:
        missing = error.code in (404, 410)
        cause = f"{host} has no such entry" if missing else f"{host} answered {error.code} ({error.reason})"
        remedy = "check the id" if missing else "try again later"
        raise ProtokError(f"{cause}: {address}", remedy) from error
    except (URLError, OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error or type(error).__name__
        remedy = "check the network, or copy the file by hand"
        raise ProtokError(f"{host} could not be reached ({reason})", remedy) from error
    if len(data) > MOST:
        raise ProtokError(f"{address} has more than {MOST >> 20} MiB", "fetch it by hand")
    return data
