"""The disk cache of compiled CPU kernels, in the user's cache folder.

Numba's own cache watches one file and fails in read-only installs. In this one a folder is keyed by everything that
decides what kernels compile to: their source, versions, Numba's settings and the target. If no folder is writable,
kernels are compiled in every process.
"""

import errno
import functools
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

from numbacnn.kernels.target import host_target

NUMBA_SETTINGS = ("BOUNDSCHECK", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE")  # environment variables that change the code
OTHER_DEVICES = {"cuda", "reference"}


@functools.cache
def cache_folder() -> Path | None:
    """The folder of this version's kernels, or None, with one warning, if it is not writable."""
    folder = cache_root() / source_key()
    try:
        if folder.parts[0] == "~":  # or a folder of that name would be made here
            raise OSError(errno.ENOENT, "there is no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        warnings.warn(
            f"compiled kernels are not kept, each start compiles them again: {folder} is not writable "
            f"({error.strerror}); set NUMBACNN_CACHE_DIR to a writable folder",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return folder


def cache_root() -> Path:
    """The folder with the kernels of every version: in ``NUMBACNN_CACHE_DIR``, by default the user's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("NUMBACNN_CACHE_DIR")
    try:
        return (Path(chosen).expanduser() if chosen else user_cache_path("numbacnn", appauthor=False)) / "jit"
    except RuntimeError:  # no HOME, and a user that the system does not know
        return Path("~/.cache/numbacnn/jit")


def clear_cache() -> None:
    """Delete the compiled kernels of every version."""
    shutil.rmtree(cache_root(), ignore_errors=True)
    cache_folder.cache_clear()


def cache_size() -> int:
    """Bytes of compiled kernels on disk, of every version."""
    return sum(map(_size, cache_root().rglob("*")))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # another process renamed its temporary file
        return 0


@functools.cache
def source_key() -> str:
    """A hash of everything that decides what the package's kernels compile to."""
    digest = hashlib.sha256()
    for part in _key_parts():
        digest.update(part)
    return digest.hexdigest()[:16]


def _key_parts() -> Iterator[bytes]:
    try:
        yield version("numbacnn").encode()
    except PackageNotFoundError:  # run from a source tree that is not installed
        yield b"source"
    yield numba.__version__.encode()
    yield repr(host_target()).encode()
    yield repr([getattr(numba.config, name) for name in NUMBA_SETTINGS]).encode()
    kernels = Path(__file__).parent
    sources = [
        path for path in sorted(kernels.rglob("*.py")) if path.relative_to(kernels).parts[0] not in OTHER_DEVICES
    ]
    for path in [*sources, kernels.parent / "geometry.py"]:
        yield str(path.relative_to(kernels.parent)).encode()
        yield path.read_bytes()


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Points Numba's cache to our folder, where every kernel is current."""

    def __init__(self, py_func: Any) -> None:
        self._py_func = py_func

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return source_key()

    def get_disambiguator(self) -> str:
        return str(self._py_func.cache_key)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "_Locator":
        return cls(py_func)


class _CacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_Locator]  # noqa: RUF012 (Numba's own form)


class KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's cache of one function, whose ``cache_key`` distinguishes functions of equal names in this folder."""

    _impl_class = _CacheImpl

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The compiled function, or None if it is not there, or its file is damaged."""
        try:
            return super().load_overload(signature, target_context)
        except Exception:  # unpickling a damaged file may raise anything
            self.flush()
            return None

    def save_overload(self, signature: Any, data: Any) -> None:
        """Save a compiled function, or warn if that fails."""
        try:
            super().save_overload(signature, data)
        except OSError as error:
            warnings.warn(f"a compiled kernel could not be kept: {error}", RuntimeWarning, stacklevel=2)

    def _index_key(self, signature: Any, codegen: Any) -> tuple[Any, ...]:
        # The folder's key covers the bytecode. Numba's own key would add closures, which differ in every process.
        return signature, codegen.magic_tuple()
