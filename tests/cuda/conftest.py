import pytest

from numbacnn.kernels.cuda.runtime import backend, driver, simulator

if backend.SIMULATED:
    import simulator

    simulator.install()

NO_DEVICE = "numba-cuda is not installed" if not backend.INSTALLED else driver.why_not()


def pytest_collection_modifyitems(items):
    """Skip tests that need a GPU or the simulator if there is neither, and tests of the compiler in the simulator."""
    for item in items:
        if "compiles" in item.keywords and (backend.SIMULATED or not backend.INSTALLED):
            item.add_marker(pytest.mark.skip("compiling needs numba-cuda, without NUMBA_ENABLE_CUDASIM"))
        elif item.path.parent.name == "cuda" and not {"compiles", "anywhere"} & set(item.keywords) and NO_DEVICE:
            item.add_marker(pytest.mark.skip(f"{NO_DEVICE}; set NUMBA_ENABLE_CUDASIM=1 for the simulator"))
