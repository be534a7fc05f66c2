"""Structure files to and from Backbone: PDB, mmCIF, BinaryCIF, plain or compressed.

`sources` says where bytes come from, `formats` lists residues and backbone atoms in a `Table`,
and `assemble` alone decides what is polymer and which conformer counts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
