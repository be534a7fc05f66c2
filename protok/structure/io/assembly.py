"""Biological assemblies: copies of chains, moved as the file says.

mmCIF and BinaryCIF tell of them in `_pdbx_struct_assembly_gen` and `_pdbx_struct_oper_list`, PDB files
in REMARK 350.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

from protok.errors import ChainNotFound, CorruptFile
from protok.structure.io.formats.categories import read_category
from protok.structure.io.formats.table import Table, check_width

#: Residues that an assembly may have; the largest capsids have some 200,000.
MOST = 1 << 22
_BIOMT = re.compile(r"\s+BIOMT([123])\s+(\S+)((?:\s+\S+){4})\s*")


@dataclass(frozen=True, eq=False)
class Part:
    """Chains of an assembly (label ids in mmCIF), and the motions (3, 4), turn and shift, of their copies."""

    chains: tuple[str, ...]
    motions: Sequence[np.ndarray]


def assembled(table: Table, data: bytes, kind: str, assembly: str) -> Table:
    """The residues of an assembly, those of its copies one after the other.

    The first copy of chain A is called A, the next ones A-2, A-3 and so on.

    Parameters
    ----------
    table
        Of the coordinates as they are in the file.
    data, kind
        Content of the file, and its format, as `sniff` tells it.
    assembly
        Id of the assembly.

    Raises
    ------
    ChainNotFound
        If the file does not know it.
    CorruptFile
        If what the file says of it cannot be, or makes more than `MOST` residues.
    """
    try:
        assemblies = _of_remarks(data) if kind == "pdb" else _of_categories(data, kind)
    except (LookupError, ValueError) as error:
        if isinstance(error, CorruptFile):
            raise
        raise CorruptFile(f"its assemblies cannot be read ({error})", "leave the assembly out") from error
    parts = assemblies.get(assembly)
    if parts is None:
        listed = ", ".join(list(assemblies)[:20])
        remedy = f"choose one that it has: {listed}" if listed else "leave the assembly out"
        raise ChainNotFound(f"has no assembly {assembly}", remedy)
    places = table.chain if kind == "pdb" else table.segment
    names = {value: value.strip().decode("utf-8", "replace") for value in set(places.tolist())}
    rows: list[np.ndarray] = []
    copies: list[tuple[np.ndarray, np.ndarray]] = []
    made: Counter[str] = Counter()
    total = 0
    for part in parts:
        own = np.isin(places, [value for value, name in names.items() if name in part.chains])
        row = np.flatnonzero(own)
        total += len(row) * len(part.motions)
        if total > MOST:
            raise CorruptFile(f"assembly {assembly} has more than {MOST} residues", "leave the assembly out")
        for motion in part.motions:
            made.update(part.chains)
            again = np.array([made[names[value]] for value in places[row].tolist()], int)
            rows.append(row)
            copies.append((motion, again))
    return _joined(table, rows, copies, assembly)


def _joined(
    table: Table, rows: list[np.ndarray], copies: list[tuple[np.ndarray, np.ndarray]], assembly: str
) -> Table:
    """The residues `rows` of each copy, after its motion, under the chain id of so many-th copy."""
    residue, xyz, atoms, start = [], [], [], 0
    for row, (motion, _) in zip(rows, copies, strict=True):
        local = np.full(len(table.name), -1)
        local[row] = np.arange(start, start + len(row))
        start += len(row)
        atom = np.flatnonzero(local[table.residue] >= 0)
        residue.append(local[table.residue[atom]])
        xyz.append(table.xyz[atom] @ motion[:, :3].T + motion[:, 3])
        atoms.append(atom)
    row, atom = np.concatenate(rows), np.concatenate(atoms)
    number = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    again = np.concatenate([times for _, times in copies])
    named = zip(table.chain[row].tolist(), again.tolist(), strict=True)
    chain = np.array([value if n == 1 else value.strip() + b"-%d" % n for value, n in named], "S")
    check_width(chain.dtype.itemsize, "chain id")
    _, key = np.unique(table.key, return_inverse=True)
    residues = {
        name: getattr(table, name)[row] for name in ("name", "icode", "number", "hetero", "polymer", "closed")
    }
    columns = {name: getattr(table, name)[atom] for name in ("slot", "alt", "occupancy", "bfactor")}
    copied = f"assembly {assembly} built: {len(rows)} cop{'y' if len(rows) == 1 else 'ies'} of its chains"
    return replace(
        table,
        chain=chain,
        key=key[row] + number * len(table.name),
        part=table.part[row] + number * (int(table.part.max(initial=0)) + 1),
        segment=table.segment[row],
        residue=np.concatenate(residue),
        xyz=np.concatenate(xyz),
        notes=[*table.notes, copied],
        **residues,
        **columns,
    )


def _of_categories(data: bytes, kind: str) -> dict[str, list[Part]]:
    made = read_category(data, kind, "_pdbx_struct_assembly_gen")
    listed = read_category(data, kind, "_pdbx_struct_oper_list")
    if not made:
        return {}
    axes = [[f"matrix[{i}][{j}]" for j in "123"] + [f"vector[{i}]"] for i in "123"]
    numbers = np.array([[listed[item] for item in axis] for axis in axes], float)  # (3, 4, motions)
    motions = dict(zip(listed["id"], numbers.transpose(2, 0, 1), strict=True))
    assemblies: dict[str, list[Part]] = {}
    columns = (made[item] for item in ("assembly_id", "oper_expression", "asym_id_list"))
    for assembly, expression, chains in zip(*columns, strict=True):
        named = tuple(chain.strip() for chain in chains.split(","))
        assemblies.setdefault(assembly, []).append(Part(named, _motions(expression, motions)))
    return assemblies


def _motions(expression: str, motions: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What ``1,2``, ``(1-60)`` and ``(X0)(1-60)`` stand for; of groups the last moves first."""
    groups = [_ids(group, motions) for text in re.split(r"[()]+", expression) if (group := text.strip(", "))]
    if prod(map(len, groups)) > MOST:
        raise CorruptFile(f"{expression} stands for too many copies", "leave the assembly out")
    made = []
    for ids in product(*groups):
        turn, shift = np.eye(3), np.zeros(3)
        for name in reversed(ids):
            own = motions[name]
            turn, shift = own[:, :3] @ turn, own[:, :3] @ shift + own[:, 3]
        made.append(np.concatenate([turn, shift[:, None]], axis=1))
    return made


def _ids(group: str, motions: dict[str, np.ndarray]) -> list[str]:
    ids = []
    for text in group.split(","):
        first, dash, last = text.strip().partition("-")
        if dash and first.isdecimal() and last.isdecimal() and text.strip() not in motions:
            # No more than there are: what is missing fails when it is looked up.
            count = min(int(last) - int(first), len(motions)) + 1
            ids += [str(int(first) + i) for i in range(count)]
        else:
            ids.append(text.strip())
    return ids


def _of_remarks(data: bytes) -> dict[str, list[Part]]:
    assemblies: dict[str, list[Part]] = {}
    current: list[list[Part]] = []  # of the assemblies that the lines are about
    chains: list[str] = []
    fresh = True  # whether the next list of chains is a new one
    motion: list[list[float]] = []
    for line in data[: data.find(b"\nATOM")].decode("latin-1").splitlines():
        if not line.startswith("REMARK 350"):
            continue
        text = line[10:].rstrip()
        if "BIOMOLECULE:" in text:
            ids = [name.strip() for name in text.partition(":")[2].split(",")]
            current = [assemblies.setdefault(name, []) for name in ids if name]
        elif "CHAINS:" in text:
            named = [name.strip() for name in text.partition(":")[2].split(",") if name.strip()]
            chains = ([] if fresh or "APPLY" in text else chains) + ["" if n == "NULL" else n for n in named]
            fresh = False
        elif match := _BIOMT.fullmatch(text):
            motion = ([] if match[1] == "1" else motion) + [[float(word) for word in match[3].split()]]
            fresh = True
            if match[1] == "3":
                for parts in current:
                    parts.append(Part(tuple(chains), [np.array(motion).reshape(3, 4)]))
    return assemblies
