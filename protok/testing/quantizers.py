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
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from protok.quantize import Quantized, Quantizer
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
        difference = out.z.reshape(-1, q.dim) - expected.z
        _within(difference, 1e-5, f"vectors of shape {shape} differ from the flat ones by")
        require(out.loss.shape == (), f"the loss has shape {tuple(out.loss.shape)}")


def check_quantizer_mask(quantizer: Quantizer) -> None:
    """Masking is removal: same vectors, ids, loss, gradient and state, whatever is masked."""
    for first, second, where in _pairs(quantizer):
        z = _latents(first, 96, seed=2).reshape(4, 24, -1)
        mask = torch.rand(4, 24, generator=torch.Generator().manual_seed(3)) < 0.6
        kept = z[mask].clone().requires_grad_()
        dirty = torch.where(mask[..., None], z, torch.nan).requires_grad_()
        a, b = _seeded(first, dirty, mask), _seeded(second, kept)
        wrong = int((a.ids[mask] != b.ids).sum())
        require(not wrong, f"masking instead of removal changes {wrong} ids{where}")
        coded = int((a.ids[~mask] != -1).sum())
        require(not coded, f"{coded} masked entries have an id other than -1{where}")
        _within(a.z[~mask], 0, "masked entries are not zero but up to", where)
        _within(a.z[mask] - b.z, 1e-6, "masking changes vectors by", where)
        _within(a.loss - b.loss, 1e-6, "masking changes the loss by", where)
        (a.z[mask].sum() + a.loss).backward()
        (b.z.sum() + b.loss).backward()
        gradient = _gradient(dirty, where)
        _within(gradient[~mask], 0, "masked entries get a gradient of", where)
        _within(gradient[mask] - _gradient(kept, where), 1e-6, "masking changes the gradient by", where)
        _same_state(first, second, f"masking changes the state{where}", 1e-6)
        nothing = _seeded(first, dirty, torch.zeros_like(mask))
        require(
            bool((nothing.ids == -1).all()) and _largest(nothing.z) == 0 == _largest(nothing.loss),
            f"a wholly masked input has codes, vectors or a loss{where}",
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
    for q, where in _hardened(quantizer, training=False):
        z = _latents(q, 200, seed=5).reshape(10, 20, -1)
        out = q(z)
        vectors = q.lookup(out.ids)
        require(vectors.shape == z.shape, f"lookup gives {tuple(vectors.shape)}, not {z.shape}")
        _within(vectors - out.z, 1e-5 * _largest(z), "lookup differs from the output by", where)
    missing = torch.full((3, *_codes(quantizer)), -1)
    _within(_used(quantizer).lookup(missing), 0, "lookup of -1 gives values up to", ", not zeros")


def check_quantizer_gradient(quantizer: Quantizer) -> None:
    """In training a finite gradient of the output reaches every vector at every hardness."""
    for q, where in _hardened(quantizer, training=True):
        z = _latents(q, 128, seed=6).requires_grad_()
        out = q(z)
        weight = torch.randn(z.shape, generator=torch.Generator().manual_seed(7))
        (out.z * weight).sum().backward()
        gradient = _gradient(z, where)
        reached = int((gradient.abs().sum(-1) > 0).sum())
        require(
            reached == len(z) and bool(gradient.isfinite().all()),
            f"a finite gradient reaches {reached} of {len(z)} vectors{where}, "
            f"with {int((~gradient.isfinite()).sum())} values not finite",
        )


def check_quantizer_eval(quantizer: Quantizer) -> None:
    """In eval nothing changes: no state, and the same input gives the same output."""
    for q, where in _hardened(quantizer, training=False):
        before = copy.deepcopy(q)
        z = _latents(q, 300, seed=8)
        first = q(z)
        for seed in (9, 10):
            q(3 * _latents(q, 300, seed=seed))
        second = q(z)
        _same_state(q, before, f"eval changes the state{where}")
        _same_output(first, second, f"the same input gives another output in eval{where}")


def check_quantizer_resume(quantizer: Quantizer) -> None:
    """A `state_dict` is all of it: loaded into a copy it gives the same and trains the same.

    Checked at every hardness, so in the middle of a ramp too.
    """
    for q, where in _hardened(quantizer, training=True):
        fresh = copy.deepcopy(quantizer)
        for seed in (11, 12):
            _seeded(q, _latents(q, 256, seed))
        fresh.load_state_dict({k: v.clone() for k, v in q.state_dict().items()})
        z = _latents(q, 256, seed=13)
        _same_output(q.eval()(z), fresh.eval()(z), f"loading changes the output{where}")
        otherwise = f"training goes on differently after loading{where}"
        for seed in (14, 15):
            a, b = (_seeded(x.train(), _latents(q, 256, seed)) for x in (q, fresh))
            _within(a.z - b.z, 0, f"{otherwise}: vectors differ by up to")
            _within(a.loss - b.loss, 0, f"{otherwise}: the loss differs by")
        _same_state(q, fresh, otherwise)


def check_quantizer_autocast(quantizer: Quantizer) -> None:
    """Inside bfloat16 autocast it computes in float32: the same ids, vectors and state."""
    for plain, cast, where in _pairs(quantizer):
        # Many, since bfloat16 moves few vectors across a border.
        z = _latents(plain, 4096, seed=16)
        expected = _seeded(plain, z)
        with torch.autocast(z.device.type, dtype=torch.bfloat16):
            out = _seeded(cast, z)
        for name, dtype in (("z", out.z.dtype), ("loss", out.loss.dtype)):
            require(dtype == torch.float32, f"{name} is {dtype} inside autocast{where}")
        _same_output(out, expected, f"autocast changes the output{where}")
        _same_state(plain, cast, f"autocast changes the state{where}")


#: Graphs as the default backend has them, run by torch's own kernels: no compiler of C++ is needed.
GRAPHS = "aot_eager_decomp_partition"
#: Hardness in the steps of a training that is compiled.
COMPILED = (0.0, 0.5, 1.0, 1.0)


def check_quantizer_compiled(quantizer: Quantizer) -> None:
    """In a model that `torch.compile` has compiled it trains as in one that is not.

    Checked under bfloat16 autocast, and with weights in bfloat16.
    """
    for half, where in ((False, " (under autocast)"), (True, " (weights in bfloat16)")):
        kind = torch.bfloat16 if half else torch.float32
        plain, model = (_seeded(_Model, _used(quantizer)).to(kind) for _ in range(2))
        # The compiler gives up on what it has compiled too often, for other quantizers.
        torch.compiler.reset()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the compiler
                losses = _trained(model, torch.compile(model, backend=GRAPHS), not half)
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            remedy = "decorate its forward with torch.compiler.disable"
            raise AssertionError(f"compiled, training fails{where}: {reason}; {remedy}") from error
        _within(losses - _trained(plain, plain, not half), 1e-4, "compiled, the loss differs by up to", where)
        _same_state(model, plain, f"compiled, training ends elsewhere{where}", 1e-4)


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
    check_quantizer_compiled,
)


class _Model(nn.Module):
    """Linear maps around a quantizer."""

    def __init__(self, quantizer: Quantizer):
        super().__init__()
        self.quantizer = quantizer
        self.before, self.after = (nn.Linear(quantizer.dim, quantizer.dim) for _ in range(2))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What comes out again, and the loss of the quantizer."""
        weight = self.before.weight
        out = self.quantizer(self.before(z.to(weight)))
        return self.after(out.z.to(weight)), out.loss


def _trained(model: _Model, call: Callable[..., Any], cast: bool) -> Tensor:
    """Losses of a few steps of training of a model, which is called as `call`."""
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for step, hardness in enumerate(COMPILED):
        model.quantizer.hardness.fill_(hardness)
        z = _latents(model.quantizer, 256, seed=17 + step)
        with torch.autocast(z.device.type, dtype=torch.bfloat16, enabled=cast):
            y, loss = _seeded(call, z)
        loss = loss + (y.float() - z).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses)


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


def _seeded(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call with a fixed state of the global generator, which is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return call(*arguments)


def _hardened(quantizer: Quantizer, training: bool) -> Iterator[tuple[Quantizer, str]]:
    """A copy at each hardness, and words for which that is."""
    used = _used(quantizer)
    for hardness in HARDNESSES:
        yield _at(used, hardness).train(training), f" at hardness {hardness:g}"


def _pairs(quantizer: Quantizer) -> Iterator[tuple[Quantizer, Quantizer, str]]:
    """Two equal copies in eval, then in training at each hardness, and words for where that is."""
    used = _used(quantizer)
    for training in (False, True):
        for hardness in HARDNESSES if training else (1.0,):
            first, second = (_at(used, hardness).train(training) for _ in range(2))
            yield first, second, f" ({'training' if training else 'eval'}, hardness {hardness:g})"


def _gradient(z: Tensor, where: str) -> Tensor:
    if z.grad is None:
        raise AssertionError(f"no gradient reaches the input{where}")
    return z.grad


def _largest(difference: Tensor) -> float:
    return float(difference.detach().abs().max()) if difference.numel() else 0.0


def _within(difference: Tensor, most: float, otherwise: str, where: str = "") -> None:
    """Require that no value is beyond `most`, else say how large the largest is."""
    largest = _largest(difference)
    require(largest <= most, f"{otherwise} {largest:.2g}{where}")


def _same_output(a: Quantized, b: Quantized, otherwise: str) -> None:
    changed, error = int((a.ids != b.ids).sum()), _largest(a.z - b.z)
    require(
        not changed and error == 0,
        f"{otherwise}: {changed} of {a.ids.numel()} ids, vectors by up to {error:.2g}",
    )


def _same_state(a: nn.Module, b: nn.Module, otherwise: str, tolerance: float = 0.0) -> None:
    expected = b.state_dict()
    for key, value in a.state_dict().items():
        _within(value.double() - expected[key].double(), tolerance, f"{otherwise}: {key} differs by up to")
