"""Every CUDA kernel compiles to machine code, and keeps its numbers in registers. Needs no GPU."""

import importlib
import pkgutil

import pytest
from assembly import CAPABILITIES, assemble

from numbacnn.kernels import cuda
from numbacnn.kernels.cuda.jit import KERNELS

pytestmark = pytest.mark.compiles

for module in pkgutil.iter_modules(cuda.__path__):
    importlib.import_module(f"numbacnn.kernels.cuda.{module.name}")


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda capability: "sm_{}{}".format(*capability))
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_every_kernel_is_assembled_without_spills(kernel, capability):
    resources = assemble(kernel, capability)
    print(f"{kernel.name:40} {resources}")
    assert resources.spill_stores == resources.spill_loads == 0, resources
    assert resources.stack == 0, resources
