"""Untrusted files are read correctly or rejected; nothing in them is executed, imported, or silently changed."""

import json
import os
import sys
import time
from io import BytesIO
from pathlib import Path

import hostile_images
import numpy as np
import pytest
from PIL import Image
from processes import run_python
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import numbacnn as nc
from numbacnn.data import read_image
from numbacnn.data.images import read_mask_file
from numbacnn.data.jpeg import needs
from numbacnn.engine.graph_format import to_dict
from numbacnn.errors import ArgumentError, DataError, ModelFileError
from numbacnn.runs.settings import MAX_CONFIG_BYTES, MAX_DOTS, read_config

FUZZ = Path(__file__).parent / "long" / "fuzz.py"


@pytest.mark.long
@pytest.mark.parametrize("form", ["idx", "gzip", "model", "graph", "image", "toml", "onnx", "checkpoint", "metrics"])
def test_mutated_files_are_read_correctly_or_rejected(form):
    output = run_python(FUZZ, form, "--count", 2000, "--draw", "hypothesis")
    assert output.startswith(f"{form}: 2,000 inputs, ")
    assert " 0 read" not in output
    assert " 0 rejected" not in output


# -- model files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def model_file(tmp_path):
    nc.Sequential([nc.Dense(2), nc.ReLU()], (3,), seed=3).save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def same_or_rejected(path, expected):
    """Return "same" or "rejected"; fail if other weights or another graph are read."""
    try:
        model = nc.load(path)
    except ModelFileError:
        return "rejected"
    assert to_dict(model.graph) == to_dict(expected.graph)
    assert (model.classes, model.normalization) == (expected.classes, expected.normalization)
    for name, array in expected.store.arrays().items():
        np.testing.assert_array_equal(model.store.arrays()[name], array, strict=True)
    return "same"


def test_a_flipped_bit_never_yields_another_model(model_file):
    expected, content, outcomes = nc.load(model_file), model_file.read_bytes(), []
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        model_file.write_bytes(changed)
        outcomes.append(same_or_rejected(model_file, expected))
    # Only blanks after the header may change.
    assert outcomes.count("rejected") > 0.9 * len(outcomes)
    size = sum(array.nbytes for array in expected.store.arrays().values())
    assert set(outcomes[-8 * size :]) == {"rejected"}


def test_truncated_and_extended_model_files_are_rejected(model_file):
    expected, content = nc.load(model_file), model_file.read_bytes()
    for length in range(len(content)):
        model_file.write_bytes(content[:length])
        assert same_or_rejected(model_file, expected) == "rejected"
    model_file.write_bytes(content + b"\0")
    assert same_or_rejected(model_file, expected) == "rejected"


def without_digest(path, arrays):
    with safe_open(path, framework="numpy") as file:
        metadata = {key: value for key, value in file.metadata().items() if key != "digest"}
    save_file(arrays, path, metadata)


def test_a_model_file_without_a_digest_is_read(model_file):
    expected = nc.load(model_file)
    without_digest(model_file, load_file(model_file))
    assert same_or_rejected(model_file, expected) == "same"


def test_a_damaged_digest_key_is_rejected(model_file):
    """The file must not pass for one from before digests existed."""
    content = model_file.read_bytes().replace(b'"digest"', b'"dihest"')
    model_file.write_bytes(content)
    for read in (nc.load, nc.Sequential([nc.Dense(2), nc.ReLU()], (3,)).load_weights):
        with pytest.raises(ModelFileError, match=r"m\.safetensors: damaged: its metadata holds an unknown 'dihest'"):
            read(model_file)


def test_load_weights_checks_the_digest(model_file):
    content = bytearray(model_file.read_bytes())
    content[-1] ^= 1
    model_file.write_bytes(content)
    model = nc.Sequential([nc.Dense(2), nc.ReLU()], (3,))
    with pytest.raises(ModelFileError, match=r"m\.safetensors: damaged: its content was altered"):
        model.load_weights(model_file)


def test_reading_a_model_file_imports_nothing(model_file, tmp_path):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\n")
    with safe_open(model_file, framework="numpy") as file:
        metadata = file.metadata()
    head = json.loads(metadata["head"])
    head["graph"]["nodes"][1] |= {"op": "own", "module": "trap"}
    save_file(load_file(model_file), model_file, {"format": "numbacnn", "version": "1", "head": json.dumps(head)})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(ModelFileError, match="of trap; reading a file imports nothing: import that module before"):
            nc.load(model_file)
    assert "trap" not in sys.modules


# -- images and configurations ----------------------------------------------------------------------------------------


def test_image_formats_whose_readers_start_programs_are_rejected(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="not an image of a known format"):
        read_image(tmp_path / "a.png", 4, 4, 3)


def test_decompression_bombs_are_rejected(tmp_path):
    """A PNG is rejected; a JPEG, which can be decoded at a fraction of its size, is read."""
    large = Image.new("L", (4100, 4100), 200)
    large.save(tmp_path / "a.png")
    with pytest.raises(DataError, match="4100×4100 is too large to decode safely, above 16,777,216 pixels"):
        read_image(tmp_path / "a.png", 4, 4, 1)
    large.save(tmp_path / "a.jpg")
    image, _ = read_image(tmp_path / "a.jpg", 4, 4, 1)
    np.testing.assert_array_equal(image, np.full((4, 4, 1), 200))


def peak_bytes():
    """The largest memory of this process since ``forget_peak``; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


READ = ["RGBA, rotated", "deep gray, rotated", "palette", "TIFF floats", "WebP RGBA", "many scans", "tall edge"]
REJECTED = {
    "progressive of four components": "9400×9400 in 33,135,000 blocks of all scans is too large",
    "very many scans": "save it as a JPEG that is not progressive",
    "tall": "16777216×1 is too large to decode safely, a side above 65,535; crop it",
    "wide deep RGBA": "4×4194304 is too large to decode safely",
    "TIFF tile": "its tiles of 16384×16384 pixels are too large to decode safely",
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux does")
@pytest.mark.parametrize("case", [*READ, *REJECTED])
def test_hostile_images_take_less_than_a_second_and_256_mib(tmp_path, case):
    path = tmp_path / "image"
    path.write_bytes(hostile_images.CASES[case]())
    for read in (lambda: read_image(path, 9, 8, 3), lambda: read_mask_file(path)):
        forget_peak()
        before, start = peak_bytes(), time.process_time()
        if case in REJECTED:
            with pytest.raises(DataError, match=REJECTED[case]):
                read()
        else:
            read()
        assert time.process_time() - start < 1
        assert peak_bytes() - before < 256 << 20


def test_a_run_of_fill_bytes_in_a_jpeg_takes_linear_time():
    content, start = hostile_images.fill_bytes(1 << 20), time.process_time()
    found = needs(BytesIO(content))
    assert time.process_time() - start < 1
    assert found == needs(BytesIO(hostile_images.fill_bytes(0)))


def test_an_image_is_made_opaque_in_bands_as_in_one_piece(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (1300, 1000, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=1)
    paper = Image.new("RGBA", (1000, 1300), "white")
    paper.alpha_composite(Image.fromarray(pixels))
    image, _ = read_image(tmp_path / "a.png", 1300, 1000, 3)
    np.testing.assert_array_equal(image, np.asarray(paper.convert("RGB")))


@pytest.mark.parametrize("read", [lambda path: read_image(path, 4, 4, 1), nc.data.read_idx, read_config])
def test_a_pipe_is_rejected_instead_of_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(nc.NumbacnnError, match=r"pipe: a pipe or a device; give a file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#" * (MAX_CONFIG_BYTES + 1), "larger than 32,768 bytes"),
        (b"[a" + b".a" * (MAX_DOTS + 1) + b"]\n" + b"b.c = 1\n" * 999, "a line has more than 200 dots"),
        (b"epochs = " + b"[" * 9000, "not a TOML file"),
        (b"epochs = \xff", "not a TOML file"),
    ],
)
def test_malicious_configurations_are_rejected(tmp_path, content, message):
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(ArgumentError, match=message) as error:
        read_config(tmp_path / "c.toml")
    assert "\n" not in str(error.value)
