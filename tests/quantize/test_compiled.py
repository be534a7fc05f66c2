"""Inside compiled models: every kind keeps `check_quantizer_compiled`; here what that does not see."""

import shutil
import subprocess
import sys

import pytest

DEFAULT_BACKEND = """
import torch
from protok.quantize import VQ, ProVQ, Schedule

torch.manual_seed(0)
quantizer = ProVQ(VQ(64, 8), Schedule("linear", 0.2, 0.4))
model = torch.nn.Sequential(torch.nn.Linear(6, 8), quantizer)
compiled = torch.compile(model)
for step in range(6):
    quantizer.progress(step / 6)
    out = compiled(torch.randn(128, 6))
    (out.z.square().sum() + out.loss).backward()
before = float(quantizer.usage[0]), quantizer.inner.codebook.clone()
compiled(torch.randn(128, 6))
assert quantizer.hardness == 1 and not torch.equal(quantizer.inner.codebook, before[1])
"""

WITHOUT_COMPILER = """
import sys
import protok
from protok.testing import random_backbone

tokenizer = protok.load("protok-1")
tokenizer.decode(tokenizer.encode(random_backbone(30, 0)))
assert "torch._dynamo" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="the default backend needs a compiler of C++")
def test_the_default_backend_trains_a_curriculum():
    subprocess.run([sys.executable, "-c", DEFAULT_BACKEND], check=True)


def test_encoding_and_decoding_do_not_wait_for_the_compiler():
    subprocess.run([sys.executable, "-c", WITHOUT_COMPILER], check=True)
