"""What each code of a codebook means, measured on structures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from protok.common.files import atomic
from protok.errors import NoProtein, Unsupported
from protok.quantize.usage import perplexity
from protok.structure import descriptors
from protok.structure.backbone import Backbone
from protok.structure.io.options import ReadOptions
from protok.tokenizers.protocol import Embeds, HasAlphabet, HasCodeVectors, Tokenizer, codes_alone
from protok.viz.colours import code_colours, hexes

#: Residues on either side of the middle of a fragment.
HALF = 4
#: Å within which CA atoms count as neighbours.
NEAR = 10.0
#: Codes that are named as the nearest of each.
NEAREST = 5
#: Structures that are tokenized together.
BATCH = 64


@dataclass(frozen=True, eq=False)
class Atlas:
    """A row a code.

    Attributes
    ----------
    codebook : str
        `name@fingerprint`.
    chains, residues : int
        On which it was measured; residues that have a code.
    columns : dict of str to array
        As `make_atlas` says.
    colours : list of str
        `#rrggbb`, a code each.
    source : str
        Where the structures come from.
    """

    codebook: str
    chains: int
    residues: int
    columns: dict[str, np.ndarray]
    colours: list[str]
    source: str = ""

    def __len__(self) -> int:
        return len(self.columns["code"])

    def summary(self) -> dict[str, Any]:
        """How much was measured, and how evenly the codes are used."""
        frequency = self.columns["frequency"]
        return {
            "codebook": self.codebook,
            "source": self.source,
            "protok": version("protok"),
            "chains": self.chains,
            "residues": self.residues,
            "codes": len(self),
            "codes_used": int((frequency > 0).sum()),
            "perplexity": round(perplexity(frequency), 2),
        }

    def save(self, path: str | Path) -> None:
        """Write the columns as Parquet; codebook and counts are in its metadata."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = {}
        for key, value in self.columns.items():
            flat = pa.array(value.reshape(-1))
            lists = value.ndim > 1
            arrays[key] = pa.FixedSizeListArray.from_arrays(flat, value[0].size) if lists else flat
        table = pa.table(arrays, metadata={"protok": json.dumps(self.summary())})
        with atomic(path, "wb") as handle:
            pq.write_table(table, handle, compression="zstd", compression_level=19)


def open_structures(
    source: str | Path,
    errors: list[tuple[str, str, str]],
    limit: int | None = None,
    options: ReadOptions | None = None,
) -> Iterator[Backbone]:
    """Chains of a store, or of structure files and folders.

    Parameters
    ----------
    source
        A store of training (.parquet), whose residues are numbered from 1 here; or a structure
        file, a folder, a pattern.
    errors
        Gets a row (file, chain, reason) for each file that cannot be read.
    limit
        Take so many, spread evenly over a store's chains, or over the files.
    options
        How files are read.

    Raises
    ------
    ProtokError
        If there is nothing there, or the store is none.
    """
    from protok.structure.io.read import none_read, read_all
    from protok.structure.io.sources.paths import iter_files
    from protok.structure.store import open_store

    if Path(source).suffix == ".parquet":
        store = open_store(source, source, options)
        for i in _spread(len(store), limit):
            yield store.backbone(int(i))
        return
    files = list(iter_files(source))
    backbone = None
    for _, backbone in read_all((files[i] for i in _spread(len(files), limit)), errors, options):
        yield from backbone.by_chain()
    if backbone is None:
        raise none_read(errors, source)


def _spread(n: int, limit: int | None) -> np.ndarray:
    return np.linspace(0, n - 1, min(n, limit or n)).round().astype(int)


def make_atlas(tokenizer: Tokenizer, structures: Iterable[Backbone], source: str = "") -> Atlas:
    """Measure what the codes of a tokenizer stand for.

    Parameters
    ----------
    tokenizer
        Of `protok.load`: a learned one, or an alphabet.
    structures
        Each chain is tokenized alone.
    source
        What they are, for the record.

    Returns
    -------
    Atlas
        With the columns ``code``, ``letter`` (alphabets only), ``count``, ``frequency``;
        ``helix``, ``strand``, ``coil``, shares of its residues by P-SEA; ``phi``, ``psi``,
        circular means in degrees, and ``phi_r``, ``psi_r``, lengths of the mean resultant (1: all
        the same, 0: any); ``neighbours``, CA atoms within 10 Å, and ``half_sphere``, those within
        13 Å on the side of the side chain, means; ``radius`` and ``radius_sd``, distance from the
        centre of the chain, Å; ``place``, mean position (3) in the frame of the chain, and
        ``place_sd``, distance (root mean square) from it; ``nearest``, the five next codes, and
        ``nearest_distance``; ``example``, the name, chain and number of the central residue, and
        ``fragment``, N, CA, C and O (9, 4, 3) of the nine residues around it, in its own frame, NaN
        where there is none. Measures of a code that no residue has are NaN.

        The central residue is the one whose latent lies nearest to the code's vector. An
        alphabet has no vectors: there the mean CA trace of the nine residues takes their place,
        and only residues that have all nine can be central.

    Raises
    ------
    NoProtein
        If no residue has a code.
    Unsupported
        If the tokenizer has no codes.
    """
    seen = _Seen(tokenizer)
    chains = (chain for structure in structures for chain in structure.by_chain())
    while batch := list(islice(chains, BATCH)):
        seen.add(batch)
    return seen.atlas(source)


class _Seen:
    """Measures of residues, batch by batch."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.vectors = self.embed = None
        if isinstance(tokenizer, HasCodeVectors) and isinstance(tokenizer, Embeds):
            self.vectors, self.embed = tokenizer.code_vectors(), tokenizer.embed
        self.letters = tokenizer.alphabet if isinstance(tokenizer, HasAlphabet) else ""
        if self.embed is None and not self.letters:
            raise Unsupported(f"{tokenizer.name} has neither code vectors and embeddings nor letters", "")
        self.chains: list[Backbone] = []
        self.rows: dict[str, list[np.ndarray]] = {}

    def add(self, chains: list[Backbone]) -> None:
        """Measure the residues of chains."""
        for chain, tokens in zip(chains, codes_alone(self.tokenizer, chains), strict=True):
            kept = np.flatnonzero(tokens.ids >= 0)
            if not len(kept):
                continue
            if self.embed is not None:
                point = self.embed(chain)
            else:
                point = descriptors.windows(chain, HALF)[:, :, 1].reshape(len(chain), -1)
            measured = {
                "code": tokens.ids,
                "chain": np.full(len(chain), len(self.chains)),
                "residue": np.arange(len(chain)),
                "element": descriptors.secondary_structure(chain),
                "torsion": descriptors.backbone_torsions(chain),
                "neighbours": descriptors.neighbours(chain, NEAR).astype(float),
                "half_sphere": descriptors.half_sphere(chain),
                "place": descriptors.place_in_chain(chain),
                "point": point,
            }
            for key, value in measured.items():
                self.rows.setdefault(key, []).append(value[kept])
            self.chains.append(chain)

    def atlas(self, source: str) -> Atlas:
        """The table of all that was seen."""
        if not self.chains:
            raise NoProtein("no residue has a code", "give structures of proteins")
        rows = {key: np.concatenate(parts) for key, parts in self.rows.items()}
        n, code = self.tokenizer.size, rows["code"]

        def mean(values: np.ndarray) -> np.ndarray:
            """Over the residues of each code, NaN left out; NaN where there is none."""
            known = np.isfinite(values)
            total = np.bincount(code[known], np.asarray(values, float)[known], n)
            with np.errstate(invalid="ignore"):
                return total / np.bincount(code[known], minlength=n)

        count = np.bincount(code, minlength=n)
        columns: dict[str, np.ndarray] = {"code": np.arange(n)}
        if self.vectors is None:
            columns["letter"] = np.array([*self.letters])
        columns |= {"count": count, "frequency": count / count.sum()}
        for name, letter in (("helix", "a"), ("strand", "b"), ("coil", "c")):
            columns[name] = mean(rows["element"] == letter)
        for name, angle in zip(("phi", "psi"), rows["torsion"].T, strict=True):
            x, y = mean(np.cos(angle)), mean(np.sin(angle))
            columns[name], columns[f"{name}_r"] = np.degrees(np.arctan2(y, x)), np.hypot(x, y)
        columns |= {name: mean(rows[name]) for name in ("neighbours", "half_sphere")}
        radius = np.linalg.norm(rows["place"], axis=1)
        columns["radius"] = mean(radius)
        columns["radius_sd"] = np.sqrt(mean((radius - columns["radius"][code]) ** 2))
        columns["place"] = np.stack([mean(x) for x in rows["place"].T], axis=1)
        off = rows["place"] - columns["place"][code]
        columns["place_sd"] = np.sqrt(mean((off**2).sum(axis=1)))
        vectors = np.stack([mean(x) for x in rows["point"].T], 1) if self.vectors is None else self.vectors
        columns["nearest"], columns["nearest_distance"] = _nearest(vectors)
        columns |= self._examples(rows, vectors)
        colours = hexes(code_colours(self.tokenizer))
        return Atlas(self.tokenizer.codebook, len(self.chains), len(code), columns, colours, source)

    def _examples(self, rows: dict[str, np.ndarray], vectors: np.ndarray) -> dict[str, np.ndarray]:
        """The residue nearest to each code's vector, and the fragment around it."""
        n = self.tokenizer.size
        off = np.linalg.norm(rows["point"] - vectors[rows["code"]], axis=1)
        order = np.lexsort([off, rows["code"]])  # what is NaN comes last
        order = order[np.isfinite(off[order])]
        codes, first = np.unique(rows["code"][order], return_index=True)
        fragment = np.full((n, 2 * HALF + 1, 4, 3), np.nan, np.float32)
        example = np.full((n, 3), "", dtype=object)
        for code, at in zip(codes.tolist(), order[first].tolist(), strict=True):
            chain, i = self.chains[rows["chain"][at]], rows["residue"][at]
            # Of the surroundings alone: windows of a whole chain would be made for one residue.
            begin = max(0, i - HALF)
            around = descriptors.windows(chain[begin : i + HALF + 1], HALF)
            fragment[code] = around[i - begin].round(2)
            example[code] = chain.name, str(chain.chain[i]), f"{chain.index[i]}{chain.icode[i]}"
        return {"example": example, "fragment": fragment}


def _nearest(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other rows of each row and their distances; -1 and NaN where there is none."""
    n, most = len(vectors), min(NEAREST, len(vectors) - 1)
    index, distance = np.full((n, most), -1), np.full((n, most), np.nan)
    for i, vector in enumerate(vectors.astype(np.float64)):
        off = np.linalg.norm(vectors - vector, axis=1)
        off[i] = np.inf
        off[np.isnan(off)] = np.inf
        near = off.argsort(kind="stable")[:most]
        near = near[np.isfinite(off[near])]  # those of no distance came last
        index[i, : len(near)], distance[i, : len(near)] = near, off[near]
    return index, distance
