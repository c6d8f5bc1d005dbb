"""Every CUDA kernel compiles to machine code, and keeps its numbers in registers. Needs no GPU."""

import importlib
import pkgutil

import pytest
from assembly import CAPABILITIES, assemble

from numbacnn.kernels import cuda
from numbacnn.kernels.cuda import product
from numbacnn.kernels.cuda.jit import KERNELS

pytestmark = pytest.mark.compiles

for module in pkgutil.iter_modules(cuda.__path__):
    importlib.import_module(f"numbacnn.kernels.cuda.{module.name}")

for tile in (product.LARGE, product.SMALL, product.NARROW):  # forward, and the gradients of the input and the weights
    for by_rows, by_terms in ((False, False), (False, True), (True, False)):
        for vector in (True, False):
            product.product_kernel(tile, by_rows, vector, by_terms, vector)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda capability: "sm_{}{}".format(*capability))
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_every_kernel_is_assembled_without_spills(kernel, capability):
    resources = assemble(kernel, capability)
    print(f"{kernel.name:40} {resources}")
    assert resources.spill_stores == resources.spill_loads == 0, resources
    assert resources.stack == 0, resources
