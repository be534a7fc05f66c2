"""Makes bench_esm3.npz: a small ESM3 structure encoder with random weights, run by the original code.

Needs the PyPI package `esm` (3.1.4; its module name is also fair-esm's), in an environment that
has it: python tests/golden/bench_esm3_make.py data/7soo.A.pdb
"""  # noqa: E501

import sys
from pathlib import Path

import numpy as np
import torch
from esm.models.vqvae import StructureTokenEncoder

import protok

WIDTH, HEADS, LAYERS, OUT, CODES = 16, 4, 2, 6, 24

torch.manual_seed(0)
model = StructureTokenEncoder(WIDTH, 1, HEADS, LAYERS, OUT, CODES).eval()
for parameter in model.parameters():  # norms, biases and scales must matter too
    parameter.data += 0.1 * torch.randn_like(parameter)
backbone = protok.read(sys.argv[1])[:60]
coords = backbone.coords[:, :3].copy()
coords[20, 1] = np.nan  # a residue that cannot be placed
index = backbone.index.astype(np.int64)
index[35:] += 7  # a gap
latents = []
model.pre_vq_proj.register_forward_hook(lambda module, inputs, out: latents.append(out))
x = torch.from_numpy(np.where(np.isfinite(coords).all((1, 2))[:, None, None], coords, np.inf))
with torch.no_grad():
    model.encode(x[None].float(), residue_index=torch.from_numpy(index)[None])
    # Codes spread over the latents, so that many are used.
    z = latents[0][0]
    model.codebook.embeddings.copy_(z[torch.randperm(len(z))[:CODES]] + 0.05)
    _, ids = model.encode(x[None].float(), residue_index=torch.from_numpy(index)[None])
spare = ("codebook.N", "codebook.z_avg")
kept = {f"weight:{k}": v.numpy() for k, v in model.state_dict().items() if k not in spare}
np.savez_compressed(
    Path(__file__).with_name("bench_esm3.npz"),
    coords=coords,
    index=index,
    latents=latents[-1][0].numpy(),
    ids=ids[0].numpy(),
    **kept,
)
