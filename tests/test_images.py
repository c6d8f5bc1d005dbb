"""Image files as arrays."""

import numpy as np
import pytest
from PIL import Image

from numbacnn.data import has_bright_border, read_image
from numbacnn.errors import ArgumentError, DataError

RAMP = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


def saved(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_gray_is_read_unchanged(tmp_path):
    image, note = read_image(saved(tmp_path / "a.png", RAMP), 4, 6, 1)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RAMP[..., np.newaxis])
    assert note is None


def test_gray_to_rgb_and_back(tmp_path):
    image, _ = read_image(saved(tmp_path / "a.png", RAMP), 4, 6, 3)
    np.testing.assert_array_equal(image, np.repeat(RAMP[..., np.newaxis], 3, axis=2))
    image, _ = read_image(saved(tmp_path / "b.png", image), 4, 6, 1)
    np.testing.assert_array_equal(image[..., 0], RAMP)


def test_sixteen_bits_keep_their_high_byte(tmp_path):
    path = saved(tmp_path / "a.png", RAMP.astype(np.uint16) * 257)
    for channels in (1, 3):
        image, _ = read_image(path, 4, 6, channels)
        np.testing.assert_array_equal(image, np.repeat(RAMP[..., np.newaxis], channels, axis=2))


def test_one_bit_is_black_and_white(tmp_path):
    image, _ = read_image(saved(tmp_path / "a.png", RAMP // 200 * 255, mode="1"), 4, 6, 1)
    np.testing.assert_array_equal(image[..., 0], RAMP // 200 * 255)


def test_transparency_is_put_on_white(tmp_path):
    pixels = np.zeros((1, 2, 4), dtype=np.uint8)
    pixels[0, 1, 3] = 255
    image, _ = read_image(saved(tmp_path / "a.png", pixels), 1, 2, 1)
    np.testing.assert_array_equal(image[0, :, 0], [255, 0])


def test_transparent_palette_color_is_put_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=b"\x00\xff")
    read, _ = read_image(tmp_path / "a.png", 1, 2, 3)
    np.testing.assert_array_equal(read, [[[255, 255, 255], [40, 50, 60]]])


def test_exif_orientation(tmp_path):
    image, exif = Image.fromarray(RAMP), Image.Exif()
    exif[0x0112] = 3  # rotated by 180 degrees
    image.save(tmp_path / "a.png", exif=exif)
    read, _ = read_image(tmp_path / "a.png", 4, 6, 1)
    np.testing.assert_array_equal(read[..., 0], RAMP[::-1, ::-1])


def test_another_size_is_scaled_and_noted(tmp_path):
    path = saved(tmp_path / "a.png", np.full((10, 20), 7, dtype=np.uint8))
    image, note = read_image(path, 5, 4, 1)
    np.testing.assert_array_equal(image, np.full((5, 4, 1), 7))
    assert note == f"{path}: scaled from 10×20 to 5×4"


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_damaged_images(tmp_path, keep):
    path = saved(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (30, 30), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.png: not (a readable|an) image"):
        read_image(path, 30, 30, 1)


@pytest.mark.parametrize("limit", [15, 5], ids=["warning", "error"])
def test_decompression_bomb(tmp_path, monkeypatch, limit):
    path = saved(tmp_path / "a.png", RAMP)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match="too large to decode safely"):
        read_image(path, 4, 6, 1)


def test_missing_image(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "a.png", 4, 6, 1)


def test_channels_are_checked(tmp_path):
    with pytest.raises(ArgumentError, match="2 channels"):
        read_image(tmp_path / "a.png", 4, 6, 2)


def test_bright_borders():
    paper = np.full((9, 9, 1), 250, dtype=np.uint8)
    paper[3:6, 3:6] = 20
    assert has_bright_border(paper)
    assert not has_bright_border(255 - paper)
    assert not has_bright_border(np.repeat(paper, 3, axis=2))
