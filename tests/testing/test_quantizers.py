"""The contracts of quantizers: VQ and ProVQ keep them all, and each can be broken."""

from dataclasses import replace

import pytest
import torch

from protok import testing
from protok.quantize import FSQ, LFQ, VQ, ProVQ, Quantizer, ResidualVQ, Schedule, SimVQ


def pro(inner, kind="cosine", **more):
    return ProVQ(inner, Schedule(kind), reservoir=2048, **more)


def residual(n=3):
    return ResidualVQ([VQ(24, 8) for _ in range(n)])


QUANTIZERS = {
    "vq": lambda: VQ(64, 8),
    "vq-plain": lambda: VQ(64, 8, init_and_revive="none"),
    "vq-gradient": lambda: VQ(64, 8, decay=None),
    "vq-cosine": lambda: VQ(64, 8, metric="cosine"),
    "simvq": lambda: SimVQ(64, 8),
    "fsq": lambda: FSQ([8, 5, 4]),
    "fsq-mapped": lambda: FSQ([8, 4], dim=8),
    "lfq": lambda: LFQ(6),
    "lfq-spherical-mapped": lambda: LFQ(7, dim=8, spherical=True),
    "residual": residual,
    "provq-bernoulli": lambda: pro(VQ(64, 8)),
    "provq-ste": lambda: pro(VQ(64, 8), "linear", estimator="ste"),
    "provq-step": lambda: pro(VQ(64, 8), "step"),
    "provq-adaptive": lambda: pro(VQ(64, 8), "adaptive"),
    "provq-mix-gradient": lambda: pro(VQ(64, 8, decay=None), estimator="mix"),
    "provq-rotation-cosine": lambda: pro(VQ(64, 8, metric="cosine"), estimator="rotation"),
    "provq-soft": lambda: pro(VQ(64, 8), estimator="soft"),
    "provq-simvq": lambda: pro(SimVQ(64, 8, bias=True), estimator="soft"),
    "provq-fsq": lambda: pro(FSQ([8, 4], dim=8), estimator="mix"),
    "provq-lfq": lambda: pro(LFQ(6)),
    "provq-residual": lambda: pro(residual(2), estimator="rotation"),
}


@pytest.mark.slow
@pytest.mark.parametrize("contract", testing.QUANTIZER_CONTRACTS)
@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizers_keep(name, contract):
    torch.manual_seed(0)
    contract(QUANTIZERS[name]())


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_quantizers_of_a_model_in_half_precision_keep_their_codes(name, kind):
    torch.manual_seed(0)
    quantizer = QUANTIZERS[name]()
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    model = torch.nn.Sequential(torch.nn.Linear(2, quantizer.dim), quantizer).to(kind)
    assert model[0].weight.dtype == kind
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())
    assert model(torch.randn(64, 2, dtype=kind)).z.dtype == torch.float32


BROKEN_QUANTIZERS: list = []


def broken_quantizer(contract, message):
    def keep(cls):
        BROKEN_QUANTIZERS.append(pytest.param(cls, contract, message, id=cls.__name__))
        return cls

    return keep


class Small(VQ):
    def __init__(self):
        super().__init__(32, 6)


@broken_quantizer(testing.check_quantizer_shape, r"input \(1, 6\) gives z \(6,\), ids \(\)")
class Squeezes(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        return replace(out, z=out.z.squeeze(0), ids=out.ids.squeeze(0))


@broken_quantizer(testing.check_quantizer_shape, r"depend on the shape")
class SeesShape(Small):
    def forward(self, z, mask=None):
        return super().forward(z - z.mean(0) if z.ndim > 1 and len(z) else z, mask)


@broken_quantizer(testing.check_quantizer_mask, r"masked entries have an id other than -1 \(eval")
class CodesMasked(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        return replace(out, ids=out.ids.clamp(min=0))


@broken_quantizer(testing.check_quantizer_mask, r"masking changes the state \(training.*: \w+ diff")
class LearnsMasked(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        if self.training and mask is not None:
            self.usage += (~mask).sum() / 100
        return out


@broken_quantizer(testing.check_quantizer_mask, "masking changes the loss by")
class LossOverMasked(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        share = 1.0 if mask is None else mask.float().mean()
        return replace(out, loss=out.loss * share)


@broken_quantizer(testing.check_quantizer_mask, r"a wholly masked input has codes, vectors or a")
class LossOfNothing(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        return out if (out.ids >= 0).any() else replace(out, loss=out.loss + 1)


@broken_quantizer(testing.check_quantizer_range, r"latents with nan give 'codes', not an error")
class TakesNan(Small):
    def forward(self, z, mask=None):
        return super().forward(torch.nan_to_num(z), mask)


@broken_quantizer(testing.check_quantizer_range, r"ids span -?\d+..32 at scale .*allowed are 0..31")
class OneTooMany(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        return replace(out, ids=out.ids + 1)


@broken_quantizer(testing.check_quantizer_lookup, "lookup differs from the output by")
class LooksUpUnitVectors(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        return replace(out, z=torch.nn.functional.normalize(out.z, dim=-1))


@broken_quantizer(testing.check_quantizer_lookup, "at hardness 0")
class SoftInEval(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        return replace(out, z=z + self.hardness * (out.z - z))


@broken_quantizer(testing.check_quantizer_lookup, r"lookup of -1 gives values up to \d")
class LooksUpTheLast(Small):
    def lookup(self, ids):
        return self.codebook[ids]


@broken_quantizer(testing.check_quantizer_gradient, r"reaches 0 of 128 vectors at hardness 1")
class NoStraightThrough(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        soft = (1 - self.hardness) * out.z + self.hardness * out.z.detach()
        return replace(out, z=soft)


@broken_quantizer(testing.check_quantizer_gradient, "values not finite")
class NanGradient(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        return replace(out, z=out.z + 0 * (z - z).square().sum(-1, keepdim=True).sqrt())


@broken_quantizer(testing.check_quantizer_eval, "eval changes the state at hardness 0: usage")
class CountsInEval(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        self.usage += 1
        return out


@broken_quantizer(
    testing.check_quantizer_eval, r"the same input gives another output in eval at hardness 0: \d+ of 300 ids"
)
class RandomInEval(Small):
    def nearest(self, c):
        return torch.randint(0, self.size, (len(c),))


@broken_quantizer(
    testing.check_quantizer_resume, "loading changes the output at hardness 0: 0 of 256 ids, vectors by"
)
class KeepsStateOutsideBuffers(Small):
    scale = 1.0

    def forward(self, z, mask=None):
        if self.training:
            self.scale += 1.0
        out = super().forward(z, mask)
        return replace(out, z=out.z * self.scale)


@broken_quantizer(testing.check_quantizer_resume, "training goes on differently after loading")
class CountsStepsOutsideBuffers(Small):
    steps = 0

    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        if self.training:
            self.steps += 1
            out = replace(out, loss=out.loss / self.steps)
        return out


@broken_quantizer(testing.check_quantizer_autocast, r"autocast changes the output .*: \d+ of 4096 ids")
class AssignsInHalf(Small):
    def forward(self, z, mask=None):
        ids = Quantizer.forward(self, z, mask).ids
        scores = z @ self.codebook.T - self.codebook.square().sum(-1) / 2
        return replace(super().forward(z, mask), ids=scores.argmax(-1) if mask is None else ids)


@broken_quantizer(testing.check_quantizer_autocast, "z is torch.bfloat16 inside autocast")
class ReturnsHalf(Small):
    def forward(self, z, mask=None):
        out = super().forward(z, mask)
        half = torch.is_autocast_enabled("cpu")
        return replace(out, z=out.z.bfloat16()) if half else out


@broken_quantizer(
    testing.check_quantizer_compiled, r"training fails \(under autocast\): .* modified by an inplace.*disable"
)
class ChangesWhatAGraphKeeps(Small):
    def forward(self, z, mask=None):
        away = (z.float() - self.codebook[0]).square().mean()
        out = super().forward(z, mask)
        out.loss = out.loss + away
        return out


@broken_quantizer(
    testing.check_quantizer_compiled,
    r"training ends elsewhere \(under autocast\): quantizer.steps differs by up to",
)
class CountsUncompiled(Small):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, z, mask=None):
        if not torch.compiler.is_compiling():
            self.steps += 1
        return super().forward(z, mask)


@pytest.mark.parametrize("quantizer, contract, message", BROKEN_QUANTIZERS)
def test_a_broken_quantizer_is_caught(quantizer, contract, message):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=message):
        contract(quantizer())


def test_every_quantizer_contract_was_broken_by_some():
    caught = {parameter.values[1] for parameter in BROKEN_QUANTIZERS}
    assert caught == set(testing.QUANTIZER_CONTRACTS)


@pytest.mark.slow
def test_quantizers_are_not_changed():
    quantizer = ProVQ(VQ(32, 6), reservoir=512)
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    for contract in testing.QUANTIZER_CONTRACTS:
        contract(quantizer)
        for key, value in quantizer.state_dict().items():
            assert torch.equal(value, before[key]), (contract.__name__, key)
        assert quantizer.training
