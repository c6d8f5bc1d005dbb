"""With ``--every-kernel`` the last test: the others have run every kernel of the compile table as PTX."""

import pytest
from compile_table import EVERY
from emulation import PTX


@pytest.mark.skipif(not PTX, reason="counts kernels that run as PTX: set NUMBACNN_PTX")
def test_every_kernel_ran(pytestconfig):
    if not pytestconfig.getoption("--every-kernel"):
        pytest.skip("only with --every-kernel, which selects the tests that run all kernels")
    from ptx import device

    never = [kernel.name for kernel in EVERY if (kernel.function, kernel.signature) not in device.executed]
    assert not never, f"{len(never)} of {len(EVERY)} kernels never ran"
