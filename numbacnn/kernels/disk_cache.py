"""The disk cache of compiled CPU kernels, in the user's cache folder.

Numba's cache checks a single source file, fails in read-only installs, and trusts what it reads. Here a folder is keyed
by everything that determines the compiled code: the kernels' source, versions, Numba's settings and the target. It
holds one file for each kernel and signature, with a digest. It is used only if not every user can write to it, and its
files only if they belong to this user or root. If no folder can be used, kernels are compiled in every process.
"""

import errno
import functools
import hashlib
import itertools
import os
import pickle
import secrets
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numba
from numba.core.bytecode import FunctionIdentity
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from numbacnn.kernels.target import host_target

NUMBA_SETTINGS = (
    "BOUNDSCHECK",
    "ENABLE_AVX",
    "OPT",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
)  # environment variables that change the code
OTHER_DEVICES = {"cuda", "reference"}
DIGEST_BYTES = 32  # of SHA-256
PRIVATE = 0o700  # the mode of new folders, whatever the umask


def _number_functions_from_a_random_start() -> None:
    """Make the names of symbols differ from those that other processes compile.

    The symbol of a function has its name, the types of its arguments, and a number that distinguishes functions of
    equal names, such as the inner functions that a function makes. Numba counts from 1 in every process. If two
    processes each compiled a kernel that calls one of these, a third, which loads both, would run one's function in
    the other.
    """
    FunctionIdentity._unique_ids = itertools.count(secrets.randbits(48))


_number_functions_from_a_random_start()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_number_functions_from_a_random_start)


@functools.cache
def cache_folder() -> Path | None:
    """The folder of this version's kernels, or None, with one warning, if there is none that can be trusted."""
    folder = cache_root() / source_key()
    try:
        if folder.parts[0] == "~":  # or a folder of that name would be made here
            raise OSError(errno.ENOENT, "there is no home folder")
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for each in (folder.parent, folder):
            if not each.is_dir():  # an existing one may be in a read-only file system
                each.mkdir(PRIVATE, exist_ok=True)
    except OSError as error:
        _warn_not_cached(f"{folder} is not writable ({error.strerror}); set NUMBACNN_CACHE_DIR to a writable folder")
        return None
    for each in (folder.parent, folder):
        if reason := _why_not_trusted(each.stat()):
            _warn_not_cached(f"{each} {reason}; remove it, or set NUMBACNN_CACHE_DIR to a folder of your own")
            return None
    return folder


@functools.cache
def _warn_not_cached(reason: str) -> None:
    """Warn once that kernels are not cached."""
    message = f"compiled kernels are not cached, each start compiles them again: {reason}"
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _why_not_trusted(status: os.stat_result) -> str | None:
    """Return why code from a file or folder must not be run: others than this user and root can change it."""
    if os.name == "nt":
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user (uid {status.st_uid})"
    return "can be written by every user" if status.st_mode & stat.S_IWOTH else None


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


def cached_functions() -> int:
    """Count the compiled functions on disk of this version: kernels, and what their threads run."""
    folder = cache_folder()
    return 0 if folder is None else sum(1 for _ in folder.glob("*.nbc"))


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
    """Hash everything that determines the compiled code of the package's kernels."""
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
    yield f"{sys.implementation.cache_tag} {getattr(sys, 'abiflags', '')}".encode()  # compiled code calls its C API
    yield repr(host_target()).encode()
    yield repr([getattr(numba.config, name) for name in NUMBA_SETTINGS]).encode()
    kernels = Path(__file__).parent
    sources = [
        path for path in sorted(kernels.rglob("*.py")) if path.relative_to(kernels).parts[0] not in OTHER_DEVICES
    ]
    for path in [*sources, kernels.parent / "geometry.py"]:
        yield str(path.relative_to(kernels.parent)).encode()
        yield path.read_bytes()


class KernelCache:
    """Numba's cache of one function: a file for each signature, with its digest first.

    ``key`` distinguishes functions of equal names. A file is written whole or not at all.
    """

    def __init__(self, function: Any, key: str, folder: Path) -> None:
        file = Path(function.__code__.co_filename)  # of generated code, a name
        self._identity, self._folder = (function.__module__, file.name, function.__qualname__, key), folder
        self._name = f"{file.stem.strip('<>').replace(' ', '_')}.{function.__name__}"

    def load_overload(self, signature: tuple[Any, ...], target_context: Any) -> Any:
        """Return the compiled function, or None if it is missing or, with a warning, damaged or not to be trusted."""
        target_context.refresh()
        path = self._path(signature, target_context.codegen())
        try:
            with path.open("rb") as file:
                reason = _why_not_trusted(os.fstat(file.fileno()))  # in a folder that a group can write to
                content = file.read()
        except OSError:
            return None
        digest, data = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        try:
            if reason is None and hashlib.sha256(data).digest() == digest:
                return CompileResult._rebuild(target_context, *pickle.loads(data))
        except Exception:  # of a file that another version of a library wrote
            pass
        with suppress(OSError):  # in a read-only folder
            path.unlink()
        warnings.warn(f"{path} {reason or 'is damaged'}: the kernel is compiled again", RuntimeWarning, stacklevel=2)
        return None

    def save_overload(self, signature: tuple[Any, ...], compiled: Any) -> None:
        """Save a compiled function. One with addresses in it cannot be saved; warn once if the folder is read-only."""
        if compiled.library.has_dynamic_globals or any(not lifted.can_cache for lifted in compiled.lifted):
            return
        data = dumps(compiled._reduce())
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", suffix=".part", delete=False) as file:
                temporary = Path(file.name)
                file.write(hashlib.sha256(data).digest())
                file.write(data)
            temporary.replace(self._path(signature, compiled.codegen))
        except OSError as error:
            _warn_not_cached(f"{self._folder} is not writable ({error.strerror})")
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def _path(self, signature: tuple[Any, ...], codegen: Any) -> Path:
        # The folder's key covers the bytecode of the package's kernels, and ``key`` that of custom ones.
        parts = [*self._identity, *map(_described, signature), repr(codegen.magic_tuple())]
        return self._folder / f"{self._name}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.nbc"


def _described(kind: Any) -> str:
    """A Numba type with the names of a tuple's fields, which its own name lacks."""
    inner = "".join(map(_described, kind)) if isinstance(kind, numba.types.BaseTuple) else ""
    return f"{kind}{getattr(kind, 'fields', '')}{inner}"
