"""The arithmetic of extractors: float32 whatever is set around it, and afterwards as it was."""

import subprocess
import sys

import pytest
import torch

from dmf.plugins.features._exact import exactly

SET = {
    "old, off": "cudnn.allow_tf32 = cuda.matmul.allow_tf32 = False",
    "new, convolutions": "cudnn.conv.fp32_precision = 'ieee'",
    "new, products": "cuda.matmul.fp32_precision = 'tf32'",
    "new, all": "torch.backends.fp32_precision = 'tf32'",
}
# the device is not asked for anything: the switches are there without one
TRY = """
import torch
from torch.backends import cuda, cudnn
from dmf.plugins.features._exact import exactly
{set}
before = cudnn.conv.fp32_precision, cuda.matmul.fp32_precision
with exactly(torch.device("cpu")):
    assert before == (cudnn.conv.fp32_precision, cuda.matmul.fp32_precision)
try:
    with exactly(torch.device("cuda")):
        assert (cudnn.conv.fp32_precision, cuda.matmul.fp32_precision) == ("ieee", "ieee")
        assert not torch.is_grad_enabled() and not torch.is_autocast_enabled("cuda")
        raise KeyError
except KeyError:
    pass
assert before == (cudnn.conv.fp32_precision, cuda.matmul.fp32_precision)
"""


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9")
@pytest.mark.parametrize("what", SET)
def test_tf32_is_off_within_and_as_before_after(what: str) -> None:
    process = subprocess.run([sys.executable, "-c", TRY.format(set=SET[what])], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_neither_autocast_nor_gradients() -> None:
    weight = torch.ones(4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), exactly(torch.device("cpu")):
        product = weight @ weight
    assert product.dtype == torch.float32 and not product.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_product_on_a_gpu_is_float32() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(512, 512, generator=random)
    torch.set_float32_matmul_precision("high")
    try:
        with exactly(torch.device("cuda")):
            found = (x.cuda() @ x.cuda()).cpu()
    finally:
        torch.set_float32_matmul_precision("highest")
    want = x.double() @ x.double()
    assert (found - want).abs().max() / want.abs().max() < 1e-6
