"""IDX files: round trips, and one-line errors for everything else that a file may hold."""

import errno
import gzip
import struct
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from faults import Faults
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from numbacnn.data import files, read_idx, write_idx
from numbacnn.errors import ArgumentError, DataError

BOUNDED = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ARRAYS = hnp.arrays(
    dtype=st.sampled_from([np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]),
    shape=hnp.array_shapes(min_dims=1, max_dims=8, min_side=0, max_side=4),
)
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def header(*dimensions, code=0x08, rank=None):
    return struct.pack(f">HBB{len(dimensions)}I", 0, code, rank or len(dimensions), *dimensions)


@BOUNDED
@given(array=ARRAYS, suffix=st.sampled_from([".idx", ".gz"]))
def test_round_trip(tmp_path, array, suffix):
    path = tmp_path / f"array{suffix}"
    write_idx(path, array)
    read = read_idx(path)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array)
    assert not list(tmp_path.glob(".*"))


def test_written_bytes_follow_the_format(tmp_path):
    path = tmp_path / "labels"
    write_idx(path, np.array([[1, -2]], dtype=np.int16))
    assert path.read_bytes() == bytes.fromhex("00000b02 00000001 00000002 0001 fffe")


def test_any_byte_order_and_layout_can_be_written(tmp_path):
    array = np.arange(6, dtype=">i4").reshape(2, 3).T
    write_idx(tmp_path / "a", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


def test_gzip_is_detected_by_content(tmp_path):
    write_idx(tmp_path / "a.gz", PIXELS)
    (tmp_path / "a.gz").rename(tmp_path / "a")
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), PIXELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "0 bytes long", id="empty"),
        pytest.param(b"\0\0\x08", "3 bytes long", id="half a magic number"),
        pytest.param(b"\x89PNG", "not an IDX file; it starts with 89 50 4e 47", id="another format"),
        pytest.param(header(1, code=0x0A) + b"\0", "not an IDX file", id="unknown type"),
        pytest.param(header(code=0x08), "not an IDX file", id="rank 0"),
        pytest.param(header(*[1] * 9) + b"\0", "not an IDX file", id="rank 9"),
        pytest.param(header(2, rank=3), "ends after 4 of the 12 bytes", id="half a header"),
        pytest.param(header(3, 4) + bytes(11), r"3×4 uint8, 12 bytes, but .* 11;", id="truncated"),
        pytest.param(header(3, code=0x0E) + bytes(23), r"3 float64, 24 bytes, but .* 23;", id="truncated float64"),
        pytest.param(header(3, 4) + bytes(13), "12 bytes, but more follow", id="trailing byte"),
        pytest.param(header(0xFFFFFFFF, 0x7FFFFFFF) + bytes(9), "but the file has room for 9;", id="oversized"),
        pytest.param(header(*[0xFFFFFFFF] * 3), "impossible dimensions 4294967295×", id="beyond 64 bits"),
        pytest.param(header(0, *[0xFFFFFFFF] * 3), "impossible dimensions 0×4294967295", id="oversized with a zero"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(gzip.compress(header(3, 4) + bytes(5)), r"12 bytes, but 5 are present", id="truncated inside"),
        pytest.param(gzip.compress(header(3, 4) + bytes(99)), "but more follow", id="trailing inside"),
        pytest.param(gzip.compress(header(0xFFFFFFFF, 0x7FFFFFFF)), "but the file has room for", id="oversized"),
        pytest.param(gzip.compress(header(3, 4) + bytes(12))[:-9], "damaged gzip file", id="cut off"),
        pytest.param(b"\x1f\x8b garbage", "damaged gzip file", id="no gzip stream"),
        pytest.param(gzip.compress(header(1) + b"a")[:-8] + bytes(8), "damaged gzip file", id="wrong checksum"),
    ],
)
def test_damaged_gzip_files(tmp_path, content, message):
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_gzip_bomb_needs_no_more_memory_than_its_header_claims(tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(header(10) + bytes(64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="10 bytes, but more follow"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@BOUNDED
@given(data=st.data(), compressed=st.booleans())
def test_mutated_file_is_read_or_rejected(tmp_path, data, compressed):
    content = bytearray(header(2, 3, 4) + PIXELS.tobytes())
    if compressed:
        content = bytearray(gzip.compress(content))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 31))] = data.draw(st.integers(0, 255))
    path = tmp_path / "file"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(DataError):
        read_idx(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="absent: no such file"):
        read_idx(tmp_path / "absent")


def test_folder_instead_of_a_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


@pytest.mark.parametrize(
    "array", [np.zeros(2, dtype=bool), np.zeros(2, dtype=np.int64), np.uint8(1), np.zeros((1,) * 9)]
)
def test_arrays_that_idx_cannot_represent(tmp_path, array):
    with pytest.raises(ArgumentError, match="IDX"):
        write_idx(tmp_path / "a", np.asarray(array))
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_idx(path, PIXELS)

    monkeypatch.setattr(files, "os", Faults(5, errno.ENOSPC))  # the rename
    with pytest.raises(DataError, match=r"cannot be written \(No space left"):
        write_idx(path, PIXELS + 1)
    np.testing.assert_array_equal(read_idx(path), PIXELS)
    assert list(tmp_path.iterdir()) == [path]
