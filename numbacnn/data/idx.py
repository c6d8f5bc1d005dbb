"""IDX, the file format of MNIST: a magic number, the dimensions, then the elements, big-endian; plain or gzipped."""

import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import format_shape, path_of
from numbacnn._checks.names import checks_call
from numbacnn.data.files import reject_pipe, write_file
from numbacnn.errors import ArgumentError, DataError

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_MAX_RANK = 8
_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_MAX_RATIO = 1032  # at most 258 bytes per two bits (https://zlib.net/zlib_tech.html)


@checks_call
def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, plain or gzipped, as detected by its first bytes.

    Returns:
        A writable array in native byte order, of the file's shape (rank 1 to 8) and type: uint8, int8, int16, int32,
        float32 or float64.

    Raises:
        DataError: the file is missing, unreadable or not an IDX file, or its size disagrees with its header. Memory
            grows with the bytes in the file, not with the size that the header claims.
    """
    path = path_of(path, "read_idx")
    reject_pipe(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            compressed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not compressed:
                return _read(file, path, size)
            with gzip.GzipFile(fileobj=file) as stream:
                return _read(stream, path, size * _GZIP_MAX_RATIO)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); download it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


@checks_call
def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array of rank 1 to 8 as an IDX file, gzipped if the name ends in ``.gz``, atomically.

    Raises:
        ArgumentError: IDX cannot represent the array's type or shape.
        DataError: the file cannot be written.
    """
    path = path_of(path, "write_idx", "pass the path, then the array")
    if not isinstance(array, np.ndarray):
        raise ArgumentError(f"write_idx: {type(array).__name__} is not an array; use numpy.asarray")
    dtype = array.dtype.newbyteorder(">")
    if dtype not in _CODES:
        raise ArgumentError(
            f"IDX has no element type for {array.dtype}; convert to uint8, int8, int16, int32, float32 or float64"
        )
    if not 1 <= array.ndim <= _MAX_RANK or max(array.shape) >= 1 << 32:
        raise ArgumentError(f"IDX holds 1 to {_MAX_RANK} dimensions below 2**32; the array's shape is {array.shape}")
    header = struct.pack(f">HBB{array.ndim}I", 0, _CODES[dtype], array.ndim, *array.shape)
    content = header + array.astype(dtype).tobytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    try:
        write_file(path, content)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


def _read(stream: io.BufferedIOBase, path: Path, limit: int) -> NDArray[Any]:
    """Read header and elements from a stream of at most ``limit`` bytes."""
    dtype, shape = _read_header(stream, path)
    claimed = dtype.itemsize * math.prod(shape)
    claim = f"{path}: the header says {format_shape(shape)} {dtype.name}, {claimed:,} bytes"
    room = limit - stream.tell()
    if claimed > room:
        raise DataError(f"{claim}, but the file has room for {room:,}; it is truncated or damaged: download it again")
    payload = bytearray()
    while chunk := stream.read(min(_CHUNK, claimed + 1 - len(payload))):
        payload += chunk
    if len(payload) < claimed:
        raise DataError(f"{claim}, but {len(payload):,} are present; the file is truncated: download it again")
    if len(payload) > claimed:
        raise DataError(f"{claim}, but more follow; the file is damaged: download it again")
    return np.ndarray(shape, dtype, payload).astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: io.BufferedIOBase, path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{path}: {len(magic)} bytes long, too short for an IDX file")
    zeros, code, rank = struct.unpack(">HBB", magic)
    if zeros or code not in _DTYPES or not 1 <= rank <= _MAX_RANK:
        raise DataError(f"{path}: not an IDX file; it starts with {magic.hex(' ')}, not with 00 00, a type and a rank")
    dimensions = stream.read(4 * rank)
    if len(dimensions) < 4 * rank:
        raise DataError(
            f"{path}: the header ends after {len(dimensions)} of the {4 * rank} bytes of its {rank} dimensions"
        )
    shape = struct.unpack(f">{rank}I", dimensions)
    # With a dimension of zero the file claims no bytes, but NumPy still rejects a product that overflows.
    if math.prod(max(length, 1) for length in shape) * _DTYPES[code].itemsize > np.iinfo(np.intp).max:
        raise DataError(
            f"{path}: impossible dimensions {format_shape(shape)}; the header is damaged: download it again"
        )
    return _DTYPES[code], shape
