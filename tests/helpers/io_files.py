"""Small structure files made of text: builders for the tests of protok.structure.io."""

# N, CA, C, O of a residue; the next one lies 3.8 Å on, so that C and N are bonded.
SHAPE = {"N": (0.0, 0.0, 0.0), "CA": (1.2, 0.8, 0.0), "C": (2.5, 0.0, 0.0), "O": (2.5, -1.2, 0.0)}


def residue(
    name,
    number,
    *,
    chain="A",
    at=None,
    record="ATOM",
    alt=" ",
    icode=" ",
    occupancy="1.00",
    bfactor="10.00",
    atoms=SHAPE,
    shift=0.0,
):
    """PDB lines of a residue at its place in a row, or at place `at`."""
    offset = 3.8 * (number if at is None else at)
    return [
        f"{record:<6}{i:5d}  {atom:<3}{alt}{name:>3}{chain:>2}{number:4d}{icode}   "
        f"{SHAPE[atom][0] + offset:8.3f}{SHAPE[atom][1] + shift:8.3f}{SHAPE[atom][2]:8.3f}"
        f"{occupancy:>6}{bfactor:>6}          {atom[0]:>2}"
        for i, atom in enumerate(atoms, 1)
    ]


def chain(names, start=1, **options):
    """PDB lines of several residues, numbered from `start`."""
    residues = (residue(name, i, **options) for i, name in enumerate(names.split(), start))
    return [line for lines in residues for line in lines]


COLUMNS = (
    "group_PDB id label_atom_id label_alt_id label_comp_id label_asym_id label_seq_id "
    "pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id "
    "pdbx_PDB_model_num"
).split()


def cif_rows(names="GLY ALA SER", asym="A", author="X", first=11, model="1"):
    """Rows of an atom_site table as dictionaries."""
    rows = []
    for i, name in enumerate(names.split()):
        for atom, (x, y, z) in SHAPE.items():
            values = (
                f"ATOM {len(rows) + 1} {atom} . {name} {asym} {i + 1} ? {x + 3.8 * i:.3f} "
                f"{y:.3f} {z:.3f} 1.00 12.50 {first + i} {author} {model}"
            )
            rows.append(dict(zip(COLUMNS, values.split(), strict=True)))
    return rows


def cif_text(rows, drop=(), head="data_x\n", tail=""):
    """An mmCIF file with these rows, without the columns in `drop`."""
    columns = [c for c in COLUMNS if c not in drop]
    lines = ["loop_", *(f"_atom_site.{c}" for c in columns)]
    lines += [" ".join(row[c] for c in columns) for row in rows]
    return head + "\n".join(lines) + "\n" + tail
