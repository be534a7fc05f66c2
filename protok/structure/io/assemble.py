"""From the table of a file to a Backbone: polymer, chains, alternate locations."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase, digits

import numpy as np

from protok.errors import ChainNotFound, CorruptFile, NoProtein
from protok.structure.backbone import SURE_BOND, Backbone, bond_lengths, placeholders
from protok.structure.io.formats.numbers import floats
from protok.structure.io.formats.residues import CAPS, NUCLEOTIDES, THREE, WATER, letter_of
from protok.structure.io.formats.table import UNREADABLE, Table, check_width


def assemble(table: Table, chains: str | None, name: str) -> Backbone:
    """Choose the protein residues and one conformer of each.

    Parameters
    ----------
    chains
        Ids separated by commas, or None for all.

    Raises
    ------
    NoProtein, ChainNotFound
        If nothing is left.
    CorruptFile
        If the residues that are left have no coordinates or no readable number.
    """
    notes = list(table.notes)
    letter, keep = _protein(table, notes)
    chain, piece = _split(table, keep, notes)
    rows = np.flatnonzero(_wanted(chain, keep, chains, notes))
    number = table.number[rows]
    if (number == UNREADABLE).any():
        raise CorruptFile("has residue numbers that are no numbers", "number its residues anew")

    local = np.full(len(keep), -1)
    local[rows] = np.arange(len(rows))
    residue = local[table.residue]
    picked = np.flatnonzero(residue >= 0)
    residue, slot = residue[picked], table.slot[picked]
    owner = np.arange(len(rows))
    key = table.key[rows]
    if piece.any():
        key = np.unique(key, return_inverse=True)[1] * len(piece) + piece[rows]
    if len(set(key.tolist())) < len(rows):
        owner = _merge(key, table, rows, picked, residue)
    chosen, source = _conformers(table, rows, owner, picked, residue, notes)

    own = owner == np.arange(len(rows))
    heads = np.flatnonzero(own)
    at, slot = (np.cumsum(own) - 1)[owner[residue[chosen]]], slot[chosen]
    picked = picked[chosen]
    coords = np.full((len(heads), 4, 3), np.nan)
    coords[at, slot] = table.xyz[picked]
    _blank_placeholders(coords, coords[at, slot], notes)
    bfactor = np.full(len(heads), np.nan, np.float32)
    alpha = np.flatnonzero(slot == 1)
    with np.errstate(over="ignore"):
        bfactor[at[alpha]] = floats(table.bfactor[picked[alpha]], np.nan, "B-factor")
    return Backbone(
        coords=coords.astype(np.float32),
        sequence=letter[rows[source[heads]]].tobytes().decode(),
        chain=_decode(chain[rows[heads]]),
        index=number[heads],
        icode=_decode(table.icode[rows[heads]]),
        bfactor=bfactor,
        name=name,
        notes=tuple(notes),
    )


def _decode(text: np.ndarray) -> np.ndarray:
    """Bytes to str, the few distinct values once each."""
    values = text.tolist()
    words = {value: _word(value) for value in set(values)}
    if len(words) == 1:
        return np.full(len(values), words[values[0]])
    return np.array([words[value] for value in values])


def _word(value: bytes) -> str:
    return value.strip().decode("utf-8", "replace")


_OTHER, _NUCLEOTIDE, _WATER, _CAP, _UNKNOWN = range(5)


@lru_cache(10_000)
def _code(written: bytes, hetero: bool) -> int:
    """Class of a residue name as in the file or, if it is an amino acid, its letter."""
    name = _name(written)
    if name == "UNK":
        return _UNKNOWN
    if letter := letter_of(name, hetero):
        return ord(letter)
    if name in CAPS:
        return _CAP
    return _NUCLEOTIDE if name in NUCLEOTIDES else _WATER if name in WATER else _OTHER


def _codes(names: list[bytes], hetero: bool) -> np.ndarray:
    codes = {name: _code(name, hetero) for name in set(names)}
    return np.frombuffer(bytes(map(codes.__getitem__, names)), np.uint8)


def _name(written: bytes) -> str:
    return written.strip().upper().decode("latin-1")


def _protein(table: Table, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return each residue's letter (bytes) and whether it is part of a protein chain."""
    names = table.name.tolist()
    code = _codes(names, hetero=False)
    if not table.hetero.any():
        if _STANDARD.issuperset(names) and (table.polymer != 0).all():
            return code, np.ones(len(code), bool)  # amino acids and nothing else
    else:
        code = np.where(table.hetero, _codes(names, hetero=True), code)

    present = np.zeros((len(code), 4), bool)
    present[table.residue, table.slot] = True
    alpha = present[:, 1]
    unsaid = table.polymer < 0
    # UNK is also what drawing programs call any molecule, and lipids may have names of modified residues.
    known = code > _UNKNOWN
    unsure = np.flatnonzero(known & ~alpha & unsaid)
    known[unsure] = [names[i] in _STANDARD for i in unsure.tolist()]
    known |= (code == _UNKNOWN) & alpha
    nucleic, water = code == _NUCLEOTIDE, code == _WATER
    # Ions and ligands have atoms called CA too, and a writer may number them like residues.
    other = (code == _OTHER) & alpha & present[:, 0] & present[:, 2]
    letter = np.where(other | (code == _UNKNOWN), np.uint8(ord("X")), code)
    candidate = known | other
    keep = candidate & (table.polymer != 0)
    doubtful = keep & (unsaid | other) & table.hetero
    if doubtful.any():
        keep[doubtful] = _joined(table, keep)[doubtful]
        _note_names(notes, "unbonded HETATM amino acids", names, doubtful & ~keep)

    lost = ~keep & ~nucleic & ~water & (~table.hetero | (table.polymer == 1))
    if nucleic.any():
        protein = set(table.chain[keep].tolist())
        strands = list(set(table.chain[nucleic].tolist()) - protein)
        inside = np.isin(table.chain, strands)
        _note(notes, len(strands), "nucleic chain{s} skipped")
        _note(notes, int((nucleic & ~inside).sum()), "nucleotide{s} in protein chains skipped")
        lost &= ~inside
    _note_names(notes, "residues that are no amino acids", names, lost)
    return letter, keep


def _stands_twice(table: Table, rows: np.ndarray) -> np.ndarray:
    """(R,) bool: all of N, CA and C at a place of which another residue has all of them, no conformers."""
    whole, alternate = np.zeros(len(table.name), bool), np.zeros(len(table.name), bool)
    whole[rows] = np.isfinite(_first_atoms(table)[rows, :3]).all(axis=(1, 2))
    alternate[table.residue[table.alt != b""]] = True
    whole &= ~alternate
    place = np.unique(table.key, return_inverse=True)[1]
    return whole & (np.bincount(place, whole)[place] > 1)


_STANDARD = {name.encode() for name in THREE if name != "UNK"}


def _in_order(table: Table, rows: np.ndarray) -> bool:
    """Whether these residues are of one chain, none of its borders among them, and their numbers rise."""
    if (np.diff(table.number[rows]) < 0).any():
        return False
    columns = (column[rows] for column in (table.chain, table.part, table.segment))
    return all((column[1:] == column[:-1]).all() for column in columns)


def _split(table: Table, keep: np.ndarray, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Chain ids (R,), and which of the chains of one id a residue belongs to (R,).

    An id stands for several chains where a TER record or another segment id comes between two
    residues that no peptide bond joins, where it comes back after another chain with numbers that
    it had before, or where its numbers begin anew and whole residues bear numbers that others bear too.
    They are named by segment, by a free letter where the id is blank, or A, A-2, A-3.
    """
    chain, piece = table.chain, np.zeros(len(keep), int)
    rows = np.flatnonzero(keep)
    if _in_order(table, rows):
        return chain, piece
    order = np.argsort(chain[rows], kind="stable")
    before, after = rows[order[:-1]], rows[order[1:]]
    cut = (table.part[before] != table.part[after]) | (table.segment[before] != table.segment[after])
    cut |= (np.diff(order) > 1) & (table.number[after] <= table.number[before])
    same = (chain[before] == chain[after]) & ~table.hetero[after]
    falls = same & (table.number[after] < table.number[before])
    if falls.any():
        cut |= falls & _stands_twice(table, rows)[after]
    cut &= same
    if cut.any():
        first = _first_atoms(table)
        with np.errstate(all="ignore"):
            cut &= ~(np.linalg.norm(first[before, 2] - first[after, 0], axis=1) < SURE_BOND)
    if not cut.any():
        return chain, piece
    new = np.concatenate([[True], chain[before] != chain[after]])
    count = np.cumsum(np.concatenate([[0], cut]))
    piece[rows[order]] = count - np.maximum.accumulate(np.where(new, count, 0))
    names = chain.astype(object)
    taken = {_word(value) for value in chain[rows].tolist()}
    free = (letter for letter in ascii_uppercase + ascii_lowercase + digits if letter not in taken)
    for value in np.unique(chain[after[cut]]).tolist():
        own = rows[chain[rows] == value]
        parts = [own[piece[own] == i] for i in range(piece[own].max() + 1)]
        segments = [bytes(table.segment[part[0]]) for part in parts]
        others = taken - {_word(value)}
        if all(segments) and len(set(segments)) == len(parts) and others.isdisjoint(map(_word, segments)):
            ids = segments
        elif not value.strip():
            ids = [next(free, str(i)).encode() for i in range(len(parts))]
        else:
            ids = [value, *(value.strip() + b"-%d" % (i + 2) for i in range(len(parts) - 1))]
        for part, name in zip(parts, ids, strict=True):
            names[part] = name
        listed = ", ".join(map(_word, ids[:20]))
        notes.append(f"chain {_word(value)!r} is {len(parts)} chains by TER, segment or numbers: {listed}")
    ids = names.astype("S")
    check_width(ids.dtype.itemsize, "chain id")
    return ids, piece


def _note_names(notes: list[str], what: str, names: list[bytes], which: np.ndarray) -> None:
    if which.any():
        counts = Counter(_name(names[i]) for i in np.flatnonzero(which).tolist()).most_common()
        listed = ", ".join(f"{n} {name}" for name, n in counts[:5])
        notes.append(f"{what} left out: {listed}{', ...' if len(counts) > 5 else ''}")


def _first_atoms(table: Table) -> np.ndarray:
    """(R, 4, 3): of each residue the backbone atoms that are listed first."""
    first = np.full((len(table.name), 4, 3), np.nan)
    first[table.residue[::-1], table.slot[::-1]] = table.xyz[::-1]
    return first


def _joined(table: Table, candidate: np.ndarray) -> np.ndarray:
    """(R,) bool: HETATM residues that belong to a chain, where the file does not say.

    A residue belongs if it lies between ATOM residues of its chain, if a TER
    record follows that closes its chain (modified residues only: a standard one
    would be ATOM), or if a peptide bond joins it to its neighbour.
    """
    joined = table.closed & [_name(name) not in THREE for name in table.name.tolist()]
    solid = np.flatnonzero(candidate & ~table.hetero)
    for chain in np.unique(table.chain[table.hetero & candidate]).tolist():
        own = solid[table.chain[solid] == chain]
        if len(own):
            joined[own[0] : own[-1]] |= table.chain[own[0] : own[-1]] == chain
    first = _first_atoms(table)
    rows = np.flatnonzero(candidate)
    with np.errstate(all="ignore"):  # whatever a damaged file may hold
        gap = bond_lengths(first[rows])
    bonded = (gap < SURE_BOND) & (table.chain[rows[:-1]] == table.chain[rows[1:]])
    joined[rows[:-1]] |= bonded
    joined[rows[1:]] |= bonded
    return joined


def _wanted(chain: np.ndarray, keep: np.ndarray, chains: str | None, notes: list[str]) -> np.ndarray:
    """(R,) bool: protein residues of the chains asked for; raise if there is none."""
    if chains is None:
        if not keep.any():
            message = "; ".join(["holds no protein residue", *notes])
            raise NoProtein(message, "give a file with a protein chain")
        return keep
    whole = chains.strip() in {_word(value) for value in chain.tolist()}  # an id may hold a comma
    wanted = {chains.strip()} if whole else {part.strip() for part in chains.split(",")}
    protein = list(dict.fromkeys(_word(value) for value in chain[keep].tolist()))
    for name in sorted(wanted.difference(protein)):
        listed = ", ".join(map(repr, protein[:20])) or "none"
        remedy = f"choose one of its protein chains: {listed}"
        if name in map(_word, chain.tolist()):
            raise NoProtein("holds no protein residue", remedy, chain=name)
        raise ChainNotFound("no such chain", remedy, chain=name)
    return keep & np.isin(chain, [value for value in set(chain.tolist()) if _word(value) in wanted])


def _merge(
    key: np.ndarray, table: Table, rows: np.ndarray, picked: np.ndarray, residue: np.ndarray
) -> np.ndarray:
    """Return for each run of lines the run that its residue begins with.

    Runs at one position are one residue if they are its parts (same name, no
    atom twice) or its conformers (different names under different alternate
    locations; what has none, as an N that they share, is listed in one of them).
    Otherwise the file uses a number for two residues.
    """
    owner = np.arange(len(rows))
    atoms: list[set] = [set() for _ in rows]
    for run, atom in zip(residue.tolist(), picked.tolist(), strict=True):
        atoms[run].add((int(table.slot[atom]), table.alt[atom]))
    _, which = np.unique(key, return_inverse=True)
    repeated = np.bincount(which)[which] > 1
    names = table.name[rows].tolist()
    # Position to its residues, each as the atoms of every name that occurs in it.
    places: dict[int, list[tuple[int, dict[bytes, set]]]] = {}
    for run in np.flatnonzero(repeated).tolist():
        residues = places.setdefault(which[run], [])
        for head, content in residues:
            others = set().union(*(content[name] for name in content if name != names[run]))
            double = atoms[run] & content.get(names[run], set())
            if not atoms[run] or not (double or others and not _are_conformers(atoms[run], others)):
                owner[run] = head
                content.setdefault(names[run], set()).update(atoms[run])
                break
        else:
            residues.append((run, {names[run]: set(atoms[run])}))
    return owner


def _are_conformers(atoms: set[tuple[int, bytes]], others: set[tuple[int, bytes]]) -> bool:
    """Whether two sets of (slot, alternate location) are residues that take turns in one place."""
    alts, other_alts = ({alt for _, alt in some} - {b""} for some in (atoms, others))
    shared = {slot for slot, alt in atoms | others if alt == b""}
    twice = {slot for slot, _ in atoms} & {slot for slot, _ in others} & shared
    return bool(alts and other_alts) and not (alts & other_alts or twice)


def _conformers(
    table: Table,
    rows: np.ndarray,
    owner: np.ndarray,
    picked: np.ndarray,
    residue: np.ndarray,
    notes: list[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Choose one atom a residue and slot: its position in `picked`, and the run that names each run.

    The alternate location with the highest summed backbone occupancy is taken
    for all atoms of a residue, the first of equals; atoms without one go with
    any, and an atom that it lacks comes from the next. Of several residues at
    one position the same sum decides.
    """
    source = np.arange(len(rows))
    home = owner[residue]
    alt, slot, names = table.alt[picked], table.slot[picked], table.name[rows]
    place = home * 4 + slot
    crowded = np.bincount(place, minlength=4 * len(rows)).reshape(-1, 4).max(axis=1, initial=0) > 1
    crowded[home[alt != b""]] = True
    crowded[owner[owner != np.arange(len(rows))]] = True
    if not crowded.any():
        return np.arange(len(picked)), source
    hard = crowded[home]
    chosen = [np.flatnonzero(~hard)]
    groups: dict[int, list[int]] = {}
    for atom in np.flatnonzero(hard).tolist():
        groups.setdefault(home[atom], []).append(atom)
    occupancy = np.ones(len(picked))
    occupancy[hard] = np.nan_to_num(floats(table.occupancy[picked[hard]], 1.0, "occupancy"))
    alternates = mixtures = doubles = filled = 0
    taken = []
    for head, atoms in groups.items():
        weight: dict[tuple, float] = {}
        for atom in atoms:
            if alt[atom]:
                conformer = (names[residue[atom]], alt[atom])
                weight[conformer] = weight.get(conformer, 0.0) + float(occupancy[atom])
        ranks = sorted(weight, key=weight.__getitem__, reverse=True)
        kind, best = ranks[0] if ranks else (names[residue[atoms[0]]], b"")
        order = {alt: i for i, (name, alt) in enumerate(ranks) if name == kind} | {b"": 0.5}
        kept: dict[int, int] = {}
        for atom in sorted(atoms, key=lambda a: order.get(alt[a], 0)):
            own = names[residue[atom]] == kind
            if own or not alt[atom]:
                first = kept.setdefault(int(slot[atom]), atom)
                doubles += first != atom and alt[atom] in (best, b"")
                filled += first == atom and alt[atom] not in (best, b"")
            if own and alt[atom] in (best, b""):
                source[head] = residue[atom]
        taken.extend(kept.values())
        alternates += len(weight) > 1 and len({kind for kind, _ in weight}) == 1
        mixtures += len({kind for kind, _ in weight}) > 1
    chosen.append(np.array(taken, int))
    for count, text in (
        (alternates, "residue{s} with alternate locations, the most occupied kept"),
        (mixtures, "residue{s} of several kinds in one place, the most occupied kept"),
        (doubles, "atom{s} listed twice, the first kept"),
        (filled, "atom{s} that the most occupied location lacks, taken from another"),
    ):
        _note(notes, count, text)
    return np.concatenate(chosen), source


def _blank_placeholders(coords: np.ndarray, listed: np.ndarray, notes: list[str]) -> None:
    """Make NaN of `coords` that stand for "unknown": 9999, or several atoms at 0, 0, 0.

    `listed` (A, 3) are those of the atoms that the file lists.
    """
    if len(listed) and np.abs(listed).max() < 9999 and (listed != 0).all():
        return  # as nearly always; NaN fails the comparison
    false = placeholders(coords)
    unread = ~np.isfinite(listed).all(axis=1)
    coords[false | ~np.isfinite(coords).all(axis=2)] = np.nan
    if not np.isfinite(coords).any():
        raise CorruptFile(
            "all atoms lie at the origin" if false.any() else "no backbone atom has coordinates",
            "give a file with coordinates",
        )
    _note(notes, int(unread.sum()), "backbone atom{s} without readable coordinates")
    _note(
        notes,
        int(false.sum()),
        "backbone atom{s} at the origin, at 9999 or beyond all measure taken as missing",
    )


def _note(notes: list[str], count: int, text: str) -> None:
    if count:
        notes.append(f"{count} {text.format(s='s' if count > 1 else '')}")
