"""The disk cache of compiled kernels: damaged files, folders that cannot be written, and folders of other users."""

import os
import re
import shutil
import stat

import numba
import numba.extending
import numpy as np
import pytest
from processes import run_python

from numbacnn.kernels import disk_cache
from numbacnn.kernels.custom import code_key

RUN = """
import sys, warnings
warnings.simplefilter("always")
warnings.showwarning = lambda message, *_: print(message)
import numpy as np
from numbacnn.kernels.cpu import launchers as cpu
from numbacnn.kernels.jit import add_compile_listener
add_compile_listener(lambda name, done: None if done else print("compiles", name))
y = np.zeros((1, 2, 3, 4), np.float32)
cpu.copy(y, np.ones((1, 2, 3, 4), np.float32))
print(y.sum())
"""


def run(folder, before=""):
    """The printed lines of a process that copies an array with this cache: its warnings, compilations and a sum."""
    return run_python("-c", before + RUN, NUMBACNN_CACHE_DIR=str(folder)).splitlines()


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache folder that another process has filled."""
    folder = tmp_path_factory.mktemp("cache")
    assert run(folder) == ["compiles copy", "24.0"]
    return folder


@pytest.fixture
def cache(filled, tmp_path):
    """A copy of it."""
    folder = tmp_path / "copy"
    shutil.copytree(filled, folder)
    return folder


def kernel_file(folder):
    (file,) = folder.rglob("*.copy-*.nbc")
    return file


def test_a_kernel_in_the_cache_is_not_compiled(cache):
    assert run(cache) == ["24.0"]


def test_new_folders_are_private_whatever_the_umask(tmp_path):
    run(tmp_path, "import os; os.umask(0)")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_dir()} == {0o700}


@pytest.mark.parametrize("damage", [lambda file: b"", lambda file: b"not a cache", lambda file: file[:-1]])
def test_a_damaged_file_is_compiled_again_with_a_warning(cache, damage):
    file = kernel_file(cache)
    file.write_bytes(damage(file.read_bytes()))
    warning, compiled, total = run(cache)
    assert re.fullmatch(r".*copy-\w+\.nbc is damaged: the kernel is compiled again", warning)
    assert (compiled, total) == ("compiles copy", "24.0")
    assert run(cache) == ["24.0"]


def test_no_flipped_bit_reaches_the_processor(cache, monkeypatch):
    """A kernel of which any bit is flipped is not unpickled."""
    file = kernel_file(cache)
    content = file.read_bytes()
    monkeypatch.setattr(disk_cache.pickle, "loads", lambda data: pytest.fail("read a damaged file"))
    monkeypatch.setattr(disk_cache.KernelCache, "_path", lambda self, signature, codegen: file)
    kernels = disk_cache.KernelCache(run, "key", file.parent)
    for position in np.random.default_rng(0).integers(0, 8 * len(content), 200):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        file.write_bytes(flipped)
        with pytest.warns(RuntimeWarning, match="is damaged"):
            assert kernels.load_overload((), FakeContext()) is None


class FakeContext:
    def refresh(self):
        pass

    def codegen(self):
        return None


READ_ONLY = """
import tempfile
def fail(**_):
    raise OSError(30, "Read-only file system")
tempfile.NamedTemporaryFile = fail
"""


def test_a_read_only_cache_is_used(cache):
    assert run(cache, READ_ONLY) == ["24.0"]


def test_what_a_read_only_cache_lacks_is_compiled_with_one_warning(cache):
    kernel_file(cache).unlink()
    compiled, warning, total = run(cache, READ_ONLY)
    assert warning.startswith("compiled kernels are not cached, each start compiles them again: ")
    assert warning.endswith(" is not writable (Read-only file system)")
    assert (compiled, total) == ("compiles copy", "24.0")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_functions_have_other_numbers_in_every_process():
    """Else two kernels that two processes compiled may call one function by the same symbol."""
    script = """
import os
from numba.core.bytecode import FunctionIdentity
import numbacnn.kernels.disk_cache
child = os.fork()
if child:
    os.waitpid(child, 0)
print(next(FunctionIdentity._unique_ids), flush=True)
"""
    numbers = [int(line) for _ in range(2) for line in run_python("-c", script).splitlines()]
    assert len({number >> 16 for number in numbers}) == 4


def test_each_python_has_a_cache_of_its_own(monkeypatch):
    before = disk_cache.source_key()
    monkeypatch.setattr("sys.abiflags", "t", raising=False)  # that of Python without a global interpreter lock
    assert disk_cache.source_key.__wrapped__() != before


@pytest.mark.skipif(os.name == "nt", reason="no owners and modes")
@pytest.mark.parametrize(
    ("before", "mode", "reason"),
    [
        ("import os; owner = os.geteuid; os.geteuid = lambda: owner() + 1", 0o700, "belongs to another user (uid"),
        ("", 0o707, "can be written by every user"),
    ],
    ids=["of another user", "world-writable"],
)
@pytest.mark.parametrize("depth", [0, 1], ids=["folder", "its parent"])
def test_code_that_others_can_write_is_not_run(cache, before, mode, reason, depth):
    kernel_file(cache).parents[depth].chmod(mode)
    if "geteuid" in before and os.geteuid() == 0:
        for path in (cache / "jit").rglob("*"):
            os.chown(path, 1, 1)  # root's own folders are trusted by everybody
        os.chown(cache / "jit", 1, 1)
        before = ""
    warning, compiled, total = run(cache, before)
    assert reason in warning
    assert warning.endswith("; remove it, or set NUMBACNN_CACHE_DIR to a folder of your own")
    assert (compiled, total) == ("compiles copy", "24.0")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files to others")
def test_a_file_of_another_user_is_not_run(cache):
    """Others may write to a folder as a group, or through the folder above it."""
    os.chown(kernel_file(cache), 1, 1)
    warning, compiled, total = run(cache)
    assert re.fullmatch(r".*\.nbc belongs to another user \(uid 1\): the kernel is compiled again", warning)
    assert (compiled, total) == ("compiles copy", "24.0")
    assert run(cache) == ["24.0"]  # its own file


def test_kernels_work_without_a_folder_that_can_be_made(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    warning, *printed = run(blocked)
    assert "is not writable" in warning
    assert printed == ["compiles copy", "24.0"]


def test_a_constant_in_a_set_is_part_of_a_custom_kernels_key():
    def key(mode):
        names = {}
        exec(f"def kernel(y, x):\n    y[0] = x[0] in {mode}", names)
        return code_key(names["kernel"])

    assert key({1, 2}) != key({3, 4})
    assert key({1, 2}) == key({2, 1}) is not None


def test_a_constant_slice_is_part_of_a_custom_kernels_key():
    def key(part):
        function = lambda x: x  # noqa: E731
        constants = (*function.__code__.co_consts, part)
        function.__code__ = function.__code__.replace(co_consts=constants)
        return code_key(function)

    assert key(slice(1, 2)) != key(slice(1, 3))
    assert key(slice(1, 2)) == key(slice(1, 2)) is not None


def test_the_implementation_of_an_overload_is_part_of_a_custom_kernels_key():
    def key(added):
        def stub(x):
            """Compiled as its overload."""

        @numba.extending.overload(stub)
        def implementation(x):
            return lambda x: x + added

        def function(y):
            y[0] = stub(y[0])

        return code_key(function)

    assert key(1) == key(1) != key(2)
