"""Structure files to and from Backbone: PDB, mmCIF, BinaryCIF, plain or compressed.

Three readers (`pdb`, `mmcif`, `bcif`) list residues and backbone atoms in a
`Table`; `assemble` alone decides what is polymer and which conformer counts.
"""

from protok.io.files import iter_files, stem
from protok.io.reader import read
from protok.io.writer import write

__all__ = ["iter_files", "read", "stem", "write"]
