"""Float32 as it is written, and who reads torch's switches for it: by their older names and by their newer ones."""

import subprocess
import sys

import pytest
import torch

from dmf.core.arithmetic import exact_float32

BOTH = "float32, TF32 in convolutions and matrix products"
OLDER = {
    "cudnn.allow_tf32 = cuda.matmul.allow_tf32 = True": BOTH,
    "cudnn.allow_tf32 = False; torch.set_float32_matmul_precision('high')": "float32, TF32 in matrix products",
    "cudnn.allow_tf32 = False; torch.set_float32_matmul_precision('medium')": "float32, TF32 in matrix products",
    "cudnn.allow_tf32 = True; torch.set_float32_matmul_precision('highest')": "float32, TF32 in convolutions",
    "cudnn.allow_tf32 = False; torch.set_float32_matmul_precision('highest')": "float32",
}
NEWER = {
    "torch.backends.fp32_precision = 'tf32'": BOTH,
    "cudnn.conv.fp32_precision = cuda.matmul.fp32_precision = 'tf32'": BOTH,
    "cudnn.conv.fp32_precision = 'ieee'; cuda.matmul.fp32_precision = 'tf32'": "float32, TF32 in matrix products",
    "cudnn.conv.fp32_precision = 'tf32'; mkldnn.matmul.fp32_precision = 'bf16'": "float32, TF32 in convolutions",
    "cudnn.conv.fp32_precision = cuda.matmul.fp32_precision = 'ieee'": "float32",
}
SET = OLDER | (NEWER if hasattr(torch.backends.cudnn, "conv") else {})
# each in a process of its own, which forks, so that torch is imported once. A GPU's switches are there without a GPU
USE = """
import os, sys, traceback
import torch
from torch.backends import cuda, cudnn, mkldnn
from dmf.core.arithmetic import exact_float32, shortened
from dmf.core.neighbours import in_balls, nearest
from dmf.plugins.features._exact import exactly
from dmf.plugins.metrics import _lpips
from dmf.runner.evaluation.protocol import arithmetic

torch.set_num_threads(1)
cpu, gpu = torch.device("cpu"), torch.device("cuda")
x = torch.randn(200, 256, generator=torch.Generator().manual_seed(0))
product = x.double() @ x.double().T
apart = (x[:, None].double() - x.double()).square().sum(2)

def used(said):
    assert arithmetic(cpu) == {"arithmetic": "float32"}
    assert arithmetic(gpu) == {"arithmetic": said}, arithmetic(gpu)
    before = shortened(cpu), shortened(gpu)
    assert torch.allclose(nearest(x, x, 2, others=True).squared, apart.sort(1).values[:, 1:3], rtol=1e-12)
    assert torch.equal(in_balls(x, x, None, apart[0])[0], (apart <= apart[0]).sum(1))
    embedding = object.__new__(_lpips.Embedding)
    seen = []
    embedding.net, embedding.scaling, embedding.heads = (lambda x: seen.append(shortened(cpu)) or []), (lambda x: x), []
    assert list(embedding(x)) == [] and seen == [[]]
    for context in (exact_float32, exactly):
        for device in (cpu, gpu):
            try:
                with context(device):
                    assert shortened(device) == []
                    assert device == gpu or (x @ x.T - product).abs().max() < 1e-3
                    raise KeyError
            except KeyError:
                assert before == (shortened(cpu), shortened(gpu))

for line in sys.stdin.read().splitlines():
    child = os.fork()
    if not child:
        try:
            how, said = line.split(" -> ")
            exec(how)
            used(said)
        except BaseException:
            print(how)
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_all_that_measure_go_by_torchs_older_and_newer_switches() -> None:
    lines = "\n".join(f"{how} -> {said}" for how, said in SET.items())
    done = subprocess.run([sys.executable, "-c", USE], input=lines, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_gradients_go_through() -> None:
    weight = torch.ones(4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), exact_float32(torch.device("cpu")):
        product = weight @ weight
    assert product.dtype == torch.float32 and product.requires_grad
