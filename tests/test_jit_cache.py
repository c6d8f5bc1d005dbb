"""The disk cache of compiled kernels, and what happens if its files are damaged or cannot be written."""

import pytest
from processes import run_python

RUN = """
import numpy as np
from numbacnn.kernels.cpu import launchers as cpu
y = np.zeros((1, 2, 3, 4), np.float32)
cpu.copy(y, np.ones((1, 2, 3, 4), np.float32))
print(y.sum())
"""


@pytest.fixture
def cache(tmp_path):
    """A cache folder that another process has filled."""
    assert run_python("-c", RUN, NUMBACNN_CACHE_DIR=str(tmp_path)).strip() == "24.0"
    return tmp_path


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"not a cache"])
def test_a_damaged_file_is_compiled_again(cache, kind, damage):
    files = list(cache.rglob(f"*.{kind}"))
    assert files
    for file in files:
        file.write_bytes(damage)
    assert run_python("-c", RUN, NUMBACNN_CACHE_DIR=str(cache)).strip() == "24.0"
    assert all(file.read_bytes() != damage for file in cache.rglob("*.nbi"))


def test_kernels_work_without_a_folder_that_can_be_made(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert run_python("-c", RUN, NUMBACNN_CACHE_DIR=str(blocked), PYTHONWARNINGS="ignore").strip() == "24.0"
