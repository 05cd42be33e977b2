"""The arithmetic of what measures: float32 whatever is set around it, and afterwards as it was."""

import subprocess
import sys

import pytest
import torch

from dmf.plugins.features._exact import exactly

# each in a process of its own, since torch lets nobody go back from the new names to the old; all in one that forks,
# so that torch is imported once. The device is not asked for anything: the switches are there without one
TRY = """
import os
import torch
from torch.backends import cuda, cudnn
from dmf.plugins.features._exact import exactly

def old_off():
    cudnn.allow_tf32 = cuda.matmul.allow_tf32 = False
def new_convolutions():
    cudnn.conv.fp32_precision = "ieee"
def new_products():
    cuda.matmul.fp32_precision = "tf32"
def new_all():
    torch.backends.fp32_precision = "tf32"

def within_and_after():
    before = cudnn.conv.fp32_precision, cuda.matmul.fp32_precision
    with exactly(torch.device("cpu")):
        assert before == (cudnn.conv.fp32_precision, cuda.matmul.fp32_precision)
    try:
        with exactly(torch.device("cuda")):
            assert {cudnn.conv.fp32_precision, cuda.matmul.fp32_precision} <= {"ieee", "none"}
            assert not torch.is_grad_enabled() and not torch.is_autocast_enabled("cuda")
            raise KeyError
    except KeyError:
        pass
    assert before == (cudnn.conv.fp32_precision, cuda.matmul.fp32_precision)

for set_it in (old_off, new_convolutions, new_products, new_all):
    child = os.fork()
    if not child:
        set_it()
        within_and_after()
        os._exit(0)
    print(set_it.__name__, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9")
def test_tf32_is_off_within_and_as_before_after() -> None:
    process = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True)
    done = dict(line.split() for line in process.stdout.splitlines())
    assert done == dict.fromkeys(("old_off", "new_convolutions", "new_products", "new_all"), "0"), process.stderr


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
