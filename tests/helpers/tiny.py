"""A tokenizer of a few lines, which does as its structures' names say: for tests of batch jobs."""

import os
import signal
import time
from pathlib import Path

import numpy as np

import protok
from protok.errors import ProtokError
from protok.tokens.tokens import Tokens


def resident() -> int:
    """Resident memory of this process in KiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * (os.sysconf("SC_PAGE_SIZE") // 1024)


class Tiny:
    """Eight codes by residue number; decodes to the coordinates of the originals, moved.

    A structure named `killer` ends the process, `leaver` too, `hanger` takes for ever, `raiser`
    raises, `refuser` is refused.

    Parameters
    ----------
    log
        File to which the name of every structure that is encoded is added.
    memory
        Add the resident memory in KiB to the log.
    seconds
        Time that a structure takes.
    originals
        Folder of the structures that `decode` knows.
    """

    name, size = "tiny", 8

    def __init__(self, log=None, seconds=0.0, version="00000001", originals=None, memory=False):
        self.codebook = f"tiny@{version}"
        self.log, self.seconds, self.originals = log, seconds, originals
        self.memory = memory

    def encode(self, structure):
        if structure.name == "killer":
            os.kill(os.getpid(), signal.SIGKILL)
        if structure.name == "leaver":
            os._exit(3)
        if structure.name == "hanger":
            time.sleep(3600)
        if structure.name == "raiser":
            raise KeyError("a fault")
        if structure.name == "refuser":
            raise ProtokError("is refused", "give another")
        time.sleep(self.seconds)
        if self.log is not None:
            with open(self.log, "a") as handle:
                handle.write(f"{structure.name}{f' {resident()}' if self.memory else ''}\n")
        ids = np.where(structure.mask, structure.index % self.size, -1)
        return Tokens.like(structure, ids, self.size, self.codebook)

    def decode(self, tokens):
        backbone = protok.read(*Path(self.originals).glob(f"{tokens.name}.*"))
        chain = backbone[backbone.chain == tokens.chain[0]]
        chain.coords[...] += 1
        chain.bfactor[...] = 50
        return chain


class TinyBatch(Tiny):
    """The same with `encode_batch`, which fails as a whole if one structure does."""

    batch_residues = 4096

    def encode_batch(self, structures):
        return [self.encode(structure) for structure in structures]
