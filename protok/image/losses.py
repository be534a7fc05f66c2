"""What a reconstruction is trained for: pixels, features of a given network, a discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from protok.errors import FormatError

#: Convolutions of VGG-16 in torchvision's numbering, block by block; a block ends at a tap.
VGG16 = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
#: Mean and standard deviation of ImageNet's pixels in 0..1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixel_loss(x: Tensor, target: Tensor, kind: str) -> Float[Tensor, ""]:
    """Mean absolute (``l1``) or squared (``l2``) difference."""
    gap = x - target
    return gap.abs().mean() if kind == "l1" else gap.square().mean()


class Perceptual(nn.Module):
    """Distance of VGG-16 features, after each block, normalised along the channels.

    With the learned weights of LPIPS in the file (``lin0.model.1.weight`` ...) this is
    LPIPS (Zhang et al. 2018, arXiv 1801.03924); without them all channels count alike.
    Never trained, never in a checkpoint.

    Parameters
    ----------
    weights
        A file, .safetensors or .pth, with the state of torchvision's ``vgg16``
        (``features.0.weight`` ...); widths are read from it.

    Raises
    ------
    FormatError
        If the file is not one.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | Path):
        super().__init__()
        state = _read_state(Path(weights))
        self.blocks = nn.ModuleList()
        try:
            for i, block in enumerate(VGG16):
                layers: list[nn.Module] = [nn.MaxPool2d(2)] if i else []
                for number in block:
                    weight = state[f"features.{number}.weight"].float()
                    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, 1, 1)
                    bias = state[f"features.{number}.bias"].float()
                    conv.load_state_dict({"weight": weight, "bias": bias})
                    layers += [conv, nn.ReLU()]
                self.blocks.append(nn.Sequential(*layers))
                width = weight.shape[0]
                lin = state.get(f"lin{i}.model.1.weight")
                share = torch.full((width,), 1 / width) if lin is None else lin.float().flatten()
                self.register_buffer(f"share{i}", share, persistent=False)
        except (KeyError, RuntimeError, IndexError) as error:
            raise FormatError(
                f"not the weights of a VGG-16 ({error})",
                "give the state of torchvision's vgg16 as .pth or .safetensors",
                file=str(weights),
            ) from error
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def forward(self, x: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Mean over the batch; pixels in -1..1."""
        a, b = (((y + 1) / 2 - self.mean) / self.std for y in (x, target))
        total = x.new_zeros(())
        for i, block in enumerate(self.blocks):
            a, b = block(a), block(b)
            gap = (F.normalize(a, dim=1, eps=1e-10) - F.normalize(b, dim=1, eps=1e-10)).square()
            share = self.get_buffer(f"share{i}")[:, None, None]
            total = total + (gap * share).sum(1).mean()
        return total


def _read_state(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch and safetensors raise whatever their readers stumble over.
        raise FormatError(
            f"cannot be read as weights ({error})", "give a .pth or .safetensors file", file=str(path)
        ) from error
    if not isinstance(state, Mapping):
        raise FormatError("holds no state of a network", "save its state_dict()", file=str(path))
    return state


class Discriminator(nn.Sequential):
    """Says of each patch whether it is of a real image: pixels (b, 3, h, w) to logits.

    PatchGAN (Isola et al. 2017, arXiv 1611.07004), with group normalisation, which is the
    same for any batch and number of processes.
    """

    def __init__(self, width: int, layers: int):
        parts: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        before = width
        for i in range(1, layers + 1):
            after = width * min(2**i, 8)
            parts += [
                # The last of the layers keeps the resolution.
                nn.Conv2d(before, after, 4, 2 if i < layers else 1, 1, bias=False),
                nn.GroupNorm(min(8, after), after),
                nn.LeakyReLU(0.2),
            ]
            before = after
        super().__init__(*parts, nn.Conv2d(before, 1, 4, 1, 1))


def discriminator_loss(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    """Hinge loss of the discriminator (Lim and Ye 2017, arXiv 1705.02894)."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def balance(faithful: Tensor, lifelike: Tensor, last: Tensor) -> Float[Tensor, ""]:
    """How many times the second loss has the gradient of the first at the last weights.

    The adaptive weight of VQGAN (Esser et al. 2021, arXiv 2012.09841, equation 7).
    """
    first = torch.autograd.grad(faithful, last, retain_graph=True)[0].norm()
    second = torch.autograd.grad(lifelike, last, retain_graph=True)[0].norm()
    return (first / (second + 1e-4)).clamp(0, 1e4).detach()
