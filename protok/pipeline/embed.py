"""Many structures at once: folders of files to a Parquet file of vectors, by the same job as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protok.errors import CorruptFile, FormatError, Unsupported, as_error
from protok.pipeline.batches import Encoded, EncodeOptions, Structures, uncoded
from protok.pipeline.encode import Form, Product, Summary, encode_all
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import Embeds, HasStates, Named, RanksCodes, Tokenizer
from protok.tokenizers.registry import as_tokenizer
from protok.tokens.parquet import cells

if TYPE_CHECKING:
    import pyarrow as pa

#: Vectors that can be asked for.
LATENTS, STATES, MEAN = COLUMNS = ("latents", "states", "mean")
#: Columns of the nearest codes; the first has ids.
NEAREST = ("codes", "distances", "margin")


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of the residues of a chain: a row of the file.

    Attributes
    ----------
    name, sequence, chain, index, icode
        As of `protok.Tokens`.
    codebook
        `name@fingerprint` of the model.
    columns
        By name, as asked for: `latents` (L, d), `states` (L, w), `mean` (w,), `codes` and `distances`
        (L, k), `margin` (L,). NaN, and -1 in `codes`, where a residue is incomplete.
    """

    name: str
    sequence: str
    chain: np.ndarray
    index: np.ndarray
    icode: np.ndarray
    codebook: str
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def uncoded(self) -> bool:
        """Whether no residue has a vector."""
        return all(
            not (x >= 0).any() if key == NEAREST[0] else np.isnan(x).all() for key, x in self.columns.items()
        )


def embed_all(
    paths: str | Path | Iterable[str | Path],
    tokenizer: Tokenizer | str | Path,
    out: str | Path,
    *,
    columns: Sequence[str] = (),
    alternatives: int = 0,
    **settings: Any,
) -> Summary:
    """Vectors of structure files, a row a chain of a Parquet file: the job of `encode_all` in all else.

    Columns are `name`, `chain`, `sequence`, `index`, `icode`, `codebook` and those asked for, each the
    numbers of a chain one residue after the other: ``row["latents"].reshape(len(row["sequence"]), -1)`` is
    (L, d). `read_vectors` reads them.

    Parameters
    ----------
    paths, tokenizer
        As for `encode_all`.
    out
        `.parquet`, or without a suffix a folder of such files.
    columns
        Of `latents`, `states` (hidden states) and `mean` (of the states of a chain, or of its latents where a
        model has no states); by default all that the model has, and a note says if it shows no states.
    alternatives
        Add so many of the nearest codes of each residue: `codes`, `distances`, and `margin`; 0 for none.
    **settings
        Of the job and of reading, as for `encode_all`.

    Raises
    ------
    Unsupported
        If the model has no such vectors, or not so many codes.
    FormatError
        If `out` is no Parquet file or folder.
    """
    tokenizer, out = as_tokenizer(tokenizer), Path(out)
    if out.suffix.lower() not in ("", ".parquet"):
        raise FormatError(f"{out.suffix!r} is no format of vectors", "use .parquet", file=str(out))
    asked, columns = columns, _columns(tokenizer, columns, alternatives)
    key = {"columns": columns, "alternatives": alternatives}
    form = Form(write_vectors, partial(_schema, columns, alternatives))
    product = Product(partial(embed_structures, **key), form, key)
    summary = encode_all(paths, tokenizer, out, product=product, **settings)
    if isinstance(tokenizer, HasStates) and LATENTS in columns and STATES not in columns and not asked:
        note = f"the encoder of {tokenizer.name} shows no hidden states: latents and their mean alone"
        return replace(summary, notes=(("", note), *summary.notes))
    return summary


def _shows_states(tokenizer: Named) -> bool:
    """Whether a model has hidden states: those with an encoder of a user's own may refuse them."""
    if not isinstance(tokenizer, HasStates):
        return False
    try:
        tokenizer.states(Backbone.from_arrays(np.zeros((1, 4, 3), np.float32)))
    except Unsupported:
        return False
    return True


def _columns(tokenizer: Named, asked: Sequence[str], alternatives: int) -> list[str]:
    """What is made of each chain, where the model has it."""
    there = [LATENTS] * isinstance(tokenizer, Embeds) + [STATES] * _shows_states(tokenizer)
    there += [MEAN] * bool(there)
    if odd := [column for column in asked if column not in there]:
        remedy = f"ask for {', '.join(there)}" if there else "take a model that embeds, such as protok-1"
        raise Unsupported(f"{tokenizer.name} has no {', '.join(odd)}", remedy)
    if not there:
        raise Unsupported(f"{tokenizer.name} has no vectors", "take a model that embeds, such as protok-1")
    if alternatives and not isinstance(tokenizer, RanksCodes):
        raise Unsupported(f"{tokenizer.name} ranks no codes", "leave the alternatives out")
    if alternatives and not 2 <= alternatives <= tokenizer.size:
        raise Unsupported(
            f"{alternatives} alternatives of {tokenizer.size} codes", f"ask for 2 to {tokenizer.size}"
        )
    return [column for column in there if column in (asked or there)]


def embed_structures(
    batch: Sequence[Structures],
    tokenizer: Tokenizer,
    options: EncodeOptions,
    *,
    columns: Sequence[str],
    alternatives: int,
) -> list[Encoded[Vectors]]:
    """Vectors of what was read of a batch, an `Encoded` for each of its inputs."""
    results = []
    for entry in batch:
        records, errors = [], list(entry.errors)
        for chain in (chain for structure in entry.structures for chain in structure.by_chain()):
            try:
                records.append(vectors(chain, tokenizer, columns, alternatives))
            except Exception as error:
                errors.append(as_error(error, entry.path, chain=chain.chains[0]))
        results.append(Encoded(entry.path, tuple(records), tuple(errors), entry.notes + uncoded(records)))
    return results


def vectors(chain: Backbone, tokenizer: Named, columns: Sequence[str], alternatives: int = 0) -> Vectors:
    """Vectors of a chain; `columns` and `alternatives` as for `embed_all`."""
    made: dict[str, np.ndarray] = {}
    if not {STATES, MEAN}.isdisjoint(columns) and isinstance(tokenizer, HasStates):
        try:
            made[STATES] = tokenizer.states(chain)
        except Unsupported:
            if STATES in columns:
                raise
    if isinstance(tokenizer, Embeds) and (LATENTS in columns or STATES not in made):
        made[LATENTS] = tokenizer.embed(chain)
    if MEAN in columns:
        of = made.get(STATES, made.get(LATENTS, np.zeros((0, 0))))
        there = of[~np.isnan(of).any(1)]
        made[MEAN] = there.mean(0) if len(there) else np.full(of.shape[1], np.nan, np.float32)
    kept = {column: made[column] for column in columns}
    if alternatives and isinstance(tokenizer, RanksCodes):
        nearest = tokenizer.alternatives(chain, alternatives)
        kept |= zip(NEAREST, (nearest.codes, nearest.distances, nearest.margin), strict=True)
    own = (chain.name, chain.sequence, chain.chain, chain.index, chain.icode)
    return Vectors(*own, tokenizer.codebook, kept)


def _schema(columns: Sequence[str], alternatives: int) -> pa.Schema:
    import pyarrow as pa

    text, numbers = pa.string(), pa.list_(pa.float32())
    fields = {
        "name": text,
        "chain": text,
        "sequence": text,
        "index": pa.list_(pa.int32()),
        "icode": pa.list_(text),
    }
    fields |= {"codebook": text} | dict.fromkeys(columns, numbers)
    if alternatives:
        fields |= dict.fromkeys(NEAREST, numbers) | {NEAREST[0]: pa.list_(pa.int32())}
    return pa.schema(fields, metadata={"protok": "vectors 1"})


def write_vectors(records: Iterable[Vectors], path: Path) -> None:
    """Write chains of the same columns into a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "name": record.name,
            "chain": str(record.chain[0]),
            "sequence": record.sequence,
            "index": record.index,
            "icode": record.icode.tolist(),
            "codebook": record.codebook,
            **{key: x.ravel() for key, x in record.columns.items()},
        }
        for record in records
    ]
    columns = [key for key in rows[0] if key in COLUMNS]
    schema = _schema(columns, NEAREST[0] in rows[0])
    pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd", write_page_checksum=True)


def read_vectors(path: str | Path) -> Iterator[Vectors]:
    """Read a file or folder of `embed_all` a chain at a time.

    Raises
    ------
    CorruptFile
        If it is none, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in sorted(Path(path).glob("*.parquet")) if Path(path).is_dir() else [Path(path)]:
        try:
            with pq.ParquetFile(file, page_checksum_verification=True) as table:
                if {*COLUMNS, *NEAREST}.isdisjoint(table.schema_arrow.names):
                    raise ValueError("it has no column of vectors")
                for batch in table.iter_batches(64):
                    columns = {name: cells(batch.column(name)) for name in batch.schema.names}
                    for row in range(batch.num_rows):
                        yield _record({name: values[row] for name, values in columns.items()})
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            remedy = "write it with protok embed"
            raise CorruptFile(f"no vectors of protok ({error})", remedy, file=file) from error


def _record(row: dict[str, Any]) -> Vectors:
    n = len(row["sequence"])
    columns = {
        key: row[key] if key in (MEAN, NEAREST[2]) else row[key].reshape(n, -1)
        for key in (*COLUMNS, *NEAREST)
        if key in row
    }
    chain = np.full(n, row["chain"])
    return Vectors(row["name"], row["sequence"], chain, row["index"], row["icode"], row["codebook"], columns)
