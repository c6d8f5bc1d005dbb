import emulation
import pytest

from numbacnn.kernels.cuda.runtime import backend, driver

if backend.SIMULATED:
    import simulator

    simulator.install()
emulation.install()

NO_DEVICE = "numba-cuda is not installed" if not backend.INSTALLED else driver.why_not()


# The tests that run every kernel of the compile table; the last one fails if they did not.
EVERY_KERNEL = ["test_twins.py", "test_gemm_table.py", "test_tensor_cores.py", "test_every_kernel.py"]


def pytest_addoption(parser):
    """Add the option for a short form of the suite that runs every kernel."""
    parser.addoption("--every-kernel", action="store_true", help="with NUMBACNN_PTX: run each kernel at least once")


def pytest_collection_modifyitems(config, items):
    """Skip tests that need a GPU or the simulator if there is neither, and tests of the compiler in the simulator."""
    if config.getoption("--every-kernel"):
        if not emulation.PTX:
            raise pytest.UsageError("--every-kernel counts kernels that run as PTX: set NUMBACNN_PTX=8.0,reversed")
        others = [item for item in items if item.path.name not in EVERY_KERNEL]
        config.hook.pytest_deselected(items=others)
        chosen = [item for item in items if item.path.name in EVERY_KERNEL]
        items[:] = sorted(chosen, key=lambda item: EVERY_KERNEL.index(item.path.name))
    for item in items:
        if "compiles" in item.keywords and (backend.SIMULATED or not backend.INSTALLED):
            item.add_marker(pytest.mark.skip("compiling needs numba-cuda, without NUMBA_ENABLE_CUDASIM"))
        elif item.path.parent.name == "cuda" and not {"compiles", "anywhere"} & set(item.keywords) and NO_DEVICE:
            item.add_marker(pytest.mark.skip(f"{NO_DEVICE}; set NUMBA_ENABLE_CUDASIM=1 for the simulator"))
        elif emulation.PTX and item.path.parent.name == "cuda" and {"compiles", "anywhere"} & set(item.keywords):
            item.add_marker(pytest.mark.skip("the driver is replaced"))


def pytest_terminal_summary(terminalreporter):
    """Print how many kernels have run as PTX."""
    if emulation.PTX:
        from compile_table import EVERY
        from ptx import device

        ran = sum((kernel.function, kernel.signature) in device.executed for kernel in EVERY)
        counts = ", ".join(f"{count:,} {what}" for what, count in device.statistics().items())
        terminalreporter.write_line(
            f"{ran} of {len(EVERY)} kernels ran as PTX ({emulation.PTX}): {device.launches:,} launches, {counts}"
        )
