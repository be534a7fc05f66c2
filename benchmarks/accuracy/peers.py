"""Residues of a structure file as gemmi reads them, or biotite where gemmi does not.

Nothing is chosen here: all residues of the first model, with every alternate location of their
backbone atoms, so that another reader's choices can be checked against what the file lists.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import biotite.structure as struc
import gemmi
import numpy as np
from biotite.structure.io import pdb, pdbx

SLOTS = {"N": 0, "CA": 1, "C": 2, "O": 3, "OT1": 3}


class Refused(Exception):
    """No peer reads the file."""


@dataclass
class Atom:
    """A backbone atom: its place in N, CA, C, O, and what the file says of it."""

    slot: int
    alt: str
    occupancy: float
    xyz: np.ndarray


@dataclass
class Site:
    """A residue as a peer lists it.

    Attributes
    ----------
    polymer
        Whether the file places it in a sequence; None if the file places nothing.
    part
        Stretch between TER records and changes of chain.
    end
        It is nothing but a terminal oxygen (OXT).
    """

    chain: str
    number: int
    icode: str
    name: str
    hetero: bool
    polymer: bool | None = None
    part: int = 0
    segment: str = ""
    end: bool = False
    atoms: list[Atom] = field(default_factory=list)

    def candidates(self, slot: int) -> list[Atom]:
        return [atom for atom in self.atoms if atom.slot == slot]

    def has(self, *slots: int) -> bool:
        return set(slots) <= {atom.slot for atom in self.atoms}

    def weights(self) -> dict[str, float]:
        """Summed occupancy of each alternate location."""
        total: dict[str, float] = {}
        for atom in self.atoms:
            if atom.alt:
                total[atom.alt] = total.get(atom.alt, 0.0) + np.nan_to_num(atom.occupancy)
        return total


def sites_of(data: bytes) -> tuple[list[Site], str]:
    """Residues of a file's first model, and which peer read them.

    Raises
    ------
    Refused
        If none does; the message has the reason of each.
    """
    data = unpacked(data)
    if data[:4] == b"FCMP":
        import foldcomp

        data = vars(foldcomp)["decompress"](data)[1].encode()
    ways: list[tuple[str, Callable[[bytes], list[Site]]]]
    if data[:1] and (data[0] & 0xF0 == 0x80 or data[0] in b"\xde\xdf"):
        ways = [("biotite", _from_binary)]
    elif b"_atom_site." in data.lower():
        ways = [("gemmi", _from_cif)]
    else:
        ways = [("gemmi", _from_pdb), ("biotite", _from_biotite)]
    reasons = []
    for name, way in ways:
        try:
            sites = way(data)
        except Exception as error:  # whatever a peer raises is its refusal
            reasons.append(
                f"{name}: {str(error).splitlines()[0][:100] if str(error) else type(error).__name__}"
            )
        else:
            if sites:
                return sites, name
            reasons.append(f"{name}: no atoms")
    raise Refused("; ".join(reasons))


def unpacked(data: bytes) -> bytes:
    """Content of gzip, bzip2 and Zstandard data, also twice packed.

    Raises
    ------
    Refused
        If it is damaged or cut short.
    """
    import zstandard

    kinds: dict[bytes, Callable[[bytes], bytes]] = {
        b"\x1f\x8b": gzip.decompress,
        b"BZh": bz2.decompress,
        b"\x28\xb5\x2f\xfd": lambda packed: zstandard.ZstdDecompressor().stream_reader(packed).read(),
        b"\xfd7zXZ": lzma.decompress,
    }
    for _ in range(3):
        unpack = next((unpack for magic, unpack in kinds.items() if data.startswith(magic)), None)
        if unpack is None:
            break
        try:
            data = unpack(data)
        except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise Refused(f"packing: {error}") from error
    return data.removeprefix(b"\xef\xbb\xbf")


def _from_pdb(data: bytes) -> list[Site]:
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data = data.replace(b"*" * 8, b"9999.999")  # which gemmi reads as 0
    structure = gemmi.read_pdb_string(data.decode("latin-1"), split_chain_on_ter=True)
    return list(_from_structure(structure, False))


def _from_cif(data: bytes) -> list[Site]:
    document = gemmi.cif.read_string(data.decode("utf-8", "replace"))
    block = next((block for block in document if block.find_values("_atom_site.Cartn_x")), None)
    if block is None:
        return []
    structure = gemmi.make_structure_from_block(block)
    return list(_from_structure(structure, True))


def _from_binary(data: bytes) -> list[Site]:
    """Decode the columns with biotite, hand them to gemmi as text."""
    block = next(iter(pdbx.BinaryCIFFile.read(io.BytesIO(data)).values()))
    category = block["atom_site"]
    texts = []
    for column in category.values():
        values = column.as_array(str)
        mask = column.mask
        if mask is not None:
            values = np.where(mask.array == 0, values, np.where(mask.array == 1, ".", "?"))
        texts.append([value if value in (".", "?") else gemmi.cif.quote(value) for value in values.tolist()])
    text = gemmi.cif.Document().add_new_block("x")
    text.init_loop("_atom_site.", list(category)).set_all_values(texts)
    return list(_from_structure(gemmi.make_structure_from_block(text), True))


def _from_structure(structure: gemmi.Structure, numbered: bool) -> Iterator[Site]:
    """Residues of the first model; `numbered` if the format can place them in sequences."""
    if not len(structure):
        return
    chains = list(structure[0])
    informed = numbered and any(residue.label_seq is not None for chain in chains for residue in chain)
    for part, chain in enumerate(chains):
        copies = []
        for residue in chain:
            first, *more = _stretches(residue)
            copies += [(residue, atoms) for atoms in more]
            yield _site(chain, part, residue, first, informed)
        for residue, atoms in sorted(copies, key=lambda copy: copy[1][0].serial):
            yield _site(chain, part, residue, atoms, informed)


def _stretches(residue: gemmi.Residue) -> list[list[gemmi.Atom]]:
    """Atoms of a residue, taken apart where gemmi has united two that the file lists far from each other."""
    stretches: list[list[gemmi.Atom]] = [[]]
    names: set[tuple[str, str]] = set()
    for atom in residue:
        last = stretches[-1][-1].serial if stretches[-1] else atom.serial
        if (atom.name, atom.altloc) in names and abs(atom.serial - last) > 1:
            stretches.append([])
            names = set()
        stretches[-1].append(atom)
        names.add((atom.name, atom.altloc))
    return stretches


def _site(
    chain: gemmi.Chain, part: int, residue: gemmi.Residue, atoms: list[gemmi.Atom], informed: bool
) -> Site:
    return Site(
        chain=chain.name.strip(),
        number=residue.seqid.num if residue.seqid.num is not None else -(10**6),
        icode=residue.seqid.icode.strip(),
        name=residue.name,
        hetero=residue.het_flag == "H",
        polymer=residue.label_seq is not None if informed else None,
        part=part,
        segment=residue.segment,
        end=[atom.name for atom in atoms] == ["OXT"],
        atoms=[
            Atom(SLOTS[name], atom.altloc.strip("\0 "), atom.occ, np.array(atom.pos.tolist()))
            for atom in atoms
            if (name := atom.name.upper()) in SLOTS
        ],
    )


def _from_biotite(data: bytes) -> list[Site]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = pdb.PDBFile.read(io.StringIO(data.decode("latin-1")))
        atoms = file.get_structure(model=1, altloc="all", extra_fields=["occupancy"])
    bounds = [*struc.get_residue_starts(atoms).tolist(), len(atoms)]
    sites = []
    for begin, end in pairwise(bounds):
        rows = [row for row in range(begin, end) if atoms.atom_name[row].upper() in SLOTS]
        sites.append(
            Site(
                chain=atoms.chain_id[begin],
                number=int(atoms.res_id[begin]),
                icode=atoms.ins_code[begin].strip(),
                name=atoms.res_name[begin],
                hetero=bool(atoms.hetero[begin]),
                atoms=[
                    Atom(
                        SLOTS[atoms.atom_name[row].upper()],
                        atoms.altloc_id[row].strip(),
                        float(atoms.occupancy[row]),
                        atoms.coord[row].astype(float),
                    )
                    for row in rows
                ],
            )
        )
    return sites
