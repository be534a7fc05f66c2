"""The contracts of any quantizer, one function each.

A quantizer is a `torch.nn.Module` with `size` and `dim`, ``forward(z (..., d), mask=None)``
that returns an object with `z`, `ids` and `loss`, ``lookup(ids) -> (..., d)``, and all its
state in parameters and buffers, among them `hardness`. One that gives several ids a vector
says so in `code_shape`, the trailing shape of its ids. The checks work on copies, brought
into use by a few training steps where that matters. `protok.quantize.Quantizer` is such a module;
it need not be inherited.
"""

from __future__ import annotations

import copy
import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from protok.quantize import Quantizer
from protok.testing.requirement import require


@runtime_checkable
class HasCodeShape(Protocol):
    """A quantizer with several ids a vector: the trailing shape of its ids."""

    @property
    def code_shape(self) -> tuple[int, ...]: ...


HARDNESSES = (0.0, 0.25, 0.5, 0.75, 1.0)


def check_quantizer_shape(quantizer: Quantizer) -> None:
    """Any leading shape, the empty one too, gives what the flat list of vectors gives."""
    q = _used(quantizer).eval()
    for shape in ((), (1,), (7,), (2, 3), (2, 1, 4), (0,), (2, 0)):
        flat = _latents(q, math.prod(shape), seed=1)
        out, expected = q(flat.reshape(*shape, q.dim)), q(flat)
        require(
            out.ids.shape == (*shape, *_codes(q)) and out.z.shape == (*shape, q.dim),
            f"input {(*shape, q.dim)} gives z {tuple(out.z.shape)}, ids {tuple(out.ids.shape)}",
        )
        different = int((out.ids.flatten() != expected.ids.flatten()).sum())
        require(not different, f"{different} of {len(flat)} ids depend on the shape {shape}")
        error = _largest(out.z.reshape(-1, q.dim) - expected.z)
        require(error < 1e-5, f"vectors of shape {shape} differ from the flat ones by {error:.2g}")
        require(out.loss.shape == (), f"the loss has shape {tuple(out.loss.shape)}")


def check_quantizer_mask(quantizer: Quantizer) -> None:
    """Masking is removal: same vectors, ids, loss, gradient and state, whatever is masked."""
    used = _used(quantizer)
    for training in (False, True):
        for hardness in HARDNESSES if training else (1.0,):
            first, second = (_at(used, hardness).train(training) for _ in range(2))
            z = _latents(first, 96, seed=2).reshape(4, 24, -1)
            mask = torch.rand(4, 24, generator=torch.Generator().manual_seed(3)) < 0.6
            kept = z[mask].clone().requires_grad_()
            dirty = torch.where(mask[..., None], z, torch.nan).requires_grad_()
            a, b = _seeded(first, dirty, mask), _seeded(second, kept)
            where = f"{'training' if training else 'eval'}, hardness {hardness:g}"
            wrong = int((a.ids[mask] != b.ids).sum())
            require(not wrong, f"masking instead of removal changes {wrong} ids ({where})")
            coded = int((a.ids[~mask] != -1).sum())
            require(not coded, f"{coded} masked entries have an id other than -1 ({where})")
            filled = _largest(a.z[~mask])
            require(filled == 0, f"masked entries are not zero but up to {filled:.2g} ({where})")
            error = _largest(a.z[mask] - b.z)
            require(error < 1e-6, f"masking changes vectors by {error:.2g} ({where})")
            error = _largest(a.loss - b.loss)
            require(error < 1e-6, f"masking changes the loss by {error:.2g} ({where})")
            (a.z[mask].sum() + a.loss).backward()
            (b.z.sum() + b.loss).backward()
            gradient = _gradient(dirty, where)
            leak = _largest(gradient[~mask])
            require(leak == 0, f"masked entries get a gradient of {leak:.2g} ({where})")
            error = _largest(gradient[mask] - _gradient(kept, where))
            require(error < 1e-6, f"masking changes the gradient by {error:.2g} ({where})")
            _same_state(first, second, f"masking changes the state ({where})", 1e-6)
            nothing = _seeded(first, dirty, torch.zeros_like(mask))
            require(
                bool((nothing.ids == -1).all()) and _largest(nothing.z) == 0 == _largest(nothing.loss),
                f"a wholly masked input has codes, vectors or a loss ({where})",
            )


def check_quantizer_range(quantizer: Quantizer) -> None:
    """Ids are whole numbers in 0..size-1, however large or small the latents are.

    Latents that are not finite have none: they are an error that says so.
    """
    for training in (True, False):
        q = _used(quantizer).train(training)
        for scale in (0.0, 1e-6, 1.0, 1e4):
            ids = q(scale * _latents(q, 200, seed=4)).ids
            require(not ids.is_floating_point(), f"ids are {ids.dtype}, not integers")
            low, high = int(ids.min()), int(ids.max())
            require(
                0 <= low and high < q.size,
                f"ids span {low}..{high} at scale {scale:g}, allowed are 0..{q.size - 1}",
            )
        for value in (math.nan, math.inf):
            z = _latents(q, 20, seed=4)
            z[3, 0] = value
            message = ""
            try:
                q(z)
            except ValueError as error:
                message = str(error)
            require("NaN" in message, f"latents with {value} give {message or 'codes'!r}, not an error")


def check_quantizer_lookup(quantizer: Quantizer) -> None:
    """In eval the output is the vector of its id, at any hardness; -1 looks up zeros."""
    used = _used(quantizer)
    for hardness in HARDNESSES:
        q = _at(used, hardness).eval()
        z = _latents(q, 200, seed=5).reshape(10, 20, -1)
        out = q(z)
        vectors = q.lookup(out.ids)
        require(vectors.shape == z.shape, f"lookup gives {tuple(vectors.shape)}, not {z.shape}")
        error = _largest(vectors - out.z)
        scale = _largest(z)
        require(
            error < 1e-5 * scale, f"lookup differs from the output by {error:.2g} at hardness {hardness:g}"
        )
    zeros = _largest(q.lookup(torch.full((3, *_codes(q)), -1)))
    require(zeros == 0, f"lookup of -1 gives values up to {zeros:.2g}, not zeros")


def check_quantizer_gradient(quantizer: Quantizer) -> None:
    """In training a finite gradient of the output reaches every vector at every hardness."""
    used = _used(quantizer)
    for hardness in HARDNESSES:
        q = _at(used, hardness).train()
        z = _latents(q, 128, seed=6).requires_grad_()
        out = q(z)
        weight = torch.randn(z.shape, generator=torch.Generator().manual_seed(7))
        (out.z * weight).sum().backward()
        gradient = _gradient(z, f"hardness {hardness:g}")
        reached = int((gradient.abs().sum(-1) > 0).sum())
        require(
            reached == len(z) and bool(gradient.isfinite().all()),
            f"a finite gradient reaches {reached} of {len(z)} vectors at hardness {hardness:g}, "
            f"with {int((~gradient.isfinite()).sum())} values not finite",
        )


def check_quantizer_eval(quantizer: Quantizer) -> None:
    """In eval nothing changes: no state, and the same input gives the same output."""
    used = _used(quantizer)
    for hardness in HARDNESSES:
        q = _at(used, hardness).eval()
        before = copy.deepcopy(q)
        z = _latents(q, 300, seed=8)
        first = q(z)
        for seed in (9, 10):
            q(3 * _latents(q, 300, seed=seed))
        second = q(z)
        _same_state(q, before, f"eval changes the state at hardness {hardness:g}")
        changed = int((first.ids != second.ids).sum())
        error = _largest(first.z - second.z)
        require(
            not changed and error == 0,
            f"the same input gives {changed} other ids, vectors {error:.2g} apart, the second "
            f"time in eval at hardness {hardness:g}",
        )


def check_quantizer_resume(quantizer: Quantizer) -> None:
    """A `state_dict` is all of it: loaded into a copy it gives the same and trains the same.

    Checked at every hardness, so in the middle of a ramp too.
    """
    used = _used(quantizer)
    for hardness in HARDNESSES:
        fresh = copy.deepcopy(quantizer)
        q = _at(used, hardness).train()
        for seed in (11, 12):
            _seeded(q, _latents(q, 256, seed))
        fresh.load_state_dict({k: v.clone() for k, v in q.state_dict().items()})
        z = _latents(q, 256, seed=13)
        a, b = q.eval()(z), fresh.eval()(z)
        changed = int((a.ids != b.ids).sum())
        require(
            not changed and _largest(a.z - b.z) == 0,
            f"after loading {changed} of {len(z)} ids differ, vectors by {_largest(a.z - b.z):.2g},"
            f" at hardness {hardness:g}",
        )
        for seed in (14, 15):
            a, b = (_seeded(x.train(), _latents(q, 256, seed)) for x in (q, fresh))
            error = max(_largest(a.z - b.z), _largest(a.loss - b.loss))
            require(
                error == 0,
                f"training goes on differently after loading at hardness {hardness:g}: "
                f"outputs differ by {error:.2g}",
            )
        _same_state(q, fresh, f"training goes on differently after loading at {hardness:g}")


def check_quantizer_autocast(quantizer: Quantizer) -> None:
    """Inside bfloat16 autocast it computes in float32: the same ids, vectors and state."""
    used = _used(quantizer)
    for training in (False, True):
        for hardness in HARDNESSES if training else (1.0,):
            plain, cast = (_at(used, hardness).train(training) for _ in range(2))
            # Many, since bfloat16 moves few vectors across a border.
            z = _latents(plain, 4096, seed=16)
            expected = _seeded(plain, z)
            with torch.autocast(z.device.type, dtype=torch.bfloat16):
                out = _seeded(cast, z)
            where = f"{'training' if training else 'eval'}, hardness {hardness:g}"
            for name in ("z", "loss"):
                dtype = getattr(out, name).dtype
                require(dtype == torch.float32, f"{name} is {dtype} inside autocast ({where})")
            changed = int((out.ids != expected.ids).sum())
            error = _largest(out.z - expected.z)
            require(
                not changed and error == 0,
                f"autocast changes {changed} of {len(z)} ids, vectors by {error:.2g} ({where})",
            )
            _same_state(plain, cast, f"autocast changes the state ({where})")


#: Contracts of any quantizer.
QUANTIZER_CONTRACTS = (
    check_quantizer_shape,
    check_quantizer_mask,
    check_quantizer_range,
    check_quantizer_lookup,
    check_quantizer_gradient,
    check_quantizer_eval,
    check_quantizer_resume,
    check_quantizer_autocast,
)


def _codes(quantizer: Quantizer) -> tuple[int, ...]:
    return tuple(quantizer.code_shape) if isinstance(quantizer, HasCodeShape) else ()


def _latents(quantizer: Quantizer, n: int, seed: int) -> Tensor:
    return torch.randn(n, quantizer.dim, generator=torch.Generator().manual_seed(seed))


def _used(quantizer: Quantizer) -> Quantizer:
    """A copy after a little training, as hard as it was, on the CPU."""
    q = copy.deepcopy(quantizer).cpu().train()
    for seed in (101, 102):
        _seeded(q, _latents(q, max(512, 2 * q.size), seed))
    return q


def _at(quantizer: Quantizer, hardness: float) -> Quantizer:
    """A copy of this hardness."""
    q = copy.deepcopy(quantizer)
    q.hardness.fill_(hardness)
    return q


def _seeded(quantizer: Quantizer, *arguments):
    """Call with a fixed state of the global generator, which is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return quantizer(*arguments)


def _gradient(z: Tensor, where: str) -> Tensor:
    if z.grad is None:
        raise AssertionError(f"no gradient reaches the input ({where})")
    return z.grad


def _largest(difference: Tensor) -> float:
    return float(difference.detach().abs().max()) if difference.numel() else 0.0


def _same_state(a: Quantizer, b: Quantizer, otherwise: str, tolerance: float = 0.0) -> None:
    expected = b.state_dict()
    for key, value in a.state_dict().items():
        error = _largest(value.double() - expected[key].double())
        require(error <= tolerance, f"{otherwise}: {key} differs by up to {error:.2g}")
