"""Image files as arrays."""

import json

import numpy as np
import pytest
from command_line import numbacnn
from PIL import Image

import numbacnn as nc
from numbacnn import data
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


DEEP = np.linspace(0, 1, 24).reshape(4, 6)


@pytest.mark.parametrize(
    ("numbers", "dtype", "suffix"),
    [
        *((65535, "u2", "png"), (4095, "u2", "png"), (1023, "u2", "tif"), (255, "u2", "png")),
        *((255, "i4", "tif"), (65535, "i4", "tif"), (1, "f4", "tif"), (255, "f4", "tif"), (65535, "f4", "tif")),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_images_are_the_picture_in_8_bits(tmp_path, numbers, dtype, suffix, channels):
    levels = DEEP * numbers if dtype == "f4" else np.rint(DEEP * numbers)
    image, _ = read_image(saved(tmp_path / f"a.{suffix}", levels.astype(dtype)), 4, 6, channels)
    np.testing.assert_allclose(image, np.repeat((DEEP * 255)[..., None], channels, axis=2), atol=0.51)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ((DEEP * (2**31 - 1)).astype("i4"), "holds numbers from 0 to 2.14748e"),
        ((DEEP * 2 - 1).astype("f4"), "holds numbers from -1 to 1; expected 0 to 1, or whole"),
        ((DEEP * 40.5).astype("f4"), "holds numbers from 0 to 40.5"),
        (np.full((4, 6), np.nan, "f4"), "holds NaN or infinity"),
    ],
)
def test_deep_images_of_no_known_scale_are_rejected(tmp_path, array, message):
    with pytest.raises(DataError, match=message):
        read_image(saved(tmp_path / "a.tif", array), 4, 6, 1)


def deep_set(folder, images):
    """A folder of two classes with these images."""
    for i, image in enumerate(images):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "ab"[i % 2] / f"{i}.tif")
    return folder


def test_the_deep_images_of_a_set_have_one_scale(tmp_path):
    """Dark images of 12 bits use fewer: they must stay dark."""
    images = [np.full((4, 6), level, np.uint16) for level in (4095, 1000, 200, 100, 50, 20)]
    train, test = data.load(deep_set(tmp_path, images))
    found = sorted(np.concatenate([train.images, test.images])[:, 0, 0, 0])
    assert found == sorted(round(level * 255 / 4095) for level in (4095, 1000, 200, 100, 50, 20))
    assert train.white == 4095
    assert "6 gray images of more than 8 bits reach 4095: read as 0 to 4095" in train.notes[0]


def test_floats_and_integers_are_not_mixed(tmp_path):
    images = [np.full((4, 6), 0.5, "f4"), np.full((4, 6), 60000, "u2")] * 2
    with pytest.raises(DataError, match="some hold floats, some integers"):
        data.load(deep_set(tmp_path, images))


def test_prediction_reads_deep_images_as_training_did(tmp_path, rng):
    levels = [rng.integers(0, 4096 if i % 2 else 900, (16, 16)).astype(np.uint16) for i in range(16)]
    folder = deep_set(tmp_path / "set", levels)
    trained = numbacnn("train", "--data", folder, "--model", "simple_cnn", "--epochs", 8, "--out", tmp_path / "r", "-q")
    assert trained.code == 0, trained.err
    assert nc.load(tmp_path / "r/model.safetensors").normalization.images.white == 4095
    dark = sorted((folder / "a").glob("*.tif"))
    found = json.loads(numbacnn("predict", tmp_path / "r", *dark, "--json").out)["predictions"]
    assert [item["classes"][0]["class"] for item in found] == ["a"] * 8
    Image.fromarray(levels[1] * 4).save(tmp_path / "bright.tif")
    assert "the other images reach 4095" in numbacnn("predict", tmp_path / "r", tmp_path / "bright.tif").err


@pytest.mark.parametrize(("ink", "paper"), [(255, 0), (240, 0), (0, 255), (120, 255)])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_strokes_are_visible(tmp_path, ink, paper, mode):
    opacity = np.zeros((8, 8), np.uint8)
    opacity[2:4] = 255
    pixels = np.stack([np.full((8, 8), ink, np.uint8)] * (len(mode) - 1) + [opacity], axis=2)
    Image.fromarray(pixels, mode).save(tmp_path / "a.png")
    image, _ = read_image(tmp_path / "a.png", 8, 8, 1)
    np.testing.assert_array_equal(image[..., 0], np.where(opacity, ink, paper))
