"""Encodings of masks: one small set of each, made with Pillow, is read right, or rejected with what it holds."""

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from numbacnn.data.normalization import Normalization

TRUTH = np.zeros((6, 48, 64), np.uint8)  # three classes, not all of them in every mask
for _number, _mask in enumerate(TRUTH):
    _mask[8:24, 6:30] = 1 if _number != 1 else 0
    _mask[20:41, 24 + _number : 52] = 2 if _number != 2 else 0
TWO = (TRUTH > 0).astype(np.uint8)
VOID = np.where(np.roll(TRUTH, 1, axis=2) != TRUTH, 255, TRUTH).astype(np.uint8)
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # of Pascal VOC


def write(folder, masks, name="{}.png", convert=lambda image, _: image, **options):
    """Write masks and images, and return the data set."""
    for number, mask in enumerate(masks):
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(TRUTH[number] * 80).save(folder / "images" / f"{number}.png")
        convert(Image.fromarray(mask), number).save(folder / "masks" / name.format(number), **options)
    return nc.data.load_folder(folder)[0]


def palette(colors):
    def convert(image, _=0):
        image.putpalette(colors)
        return image

    return convert


def shuffled(image, number):
    """Give the image a palette of red, green and black in an order that differs from file to file."""
    order = np.random.default_rng(number).permutation(3)
    indices = np.argsort(order)[np.asarray(image)].astype(np.uint8)
    return palette(np.reshape(PALETTE[:9], (3, 3))[order].reshape(-1).tolist())(Image.fromarray(indices))


def quantized(image, _):
    """Return what programs save that write only the colors a file uses."""
    return palette(PALETTE)(image).convert("RGB").quantize(8)


def in_color(image, _):
    return palette(PALETTE)(image).convert("RGB")


TWO_CLASSES = {
    "0 and 255": (TWO * 255, {}),
    "0 and 1": (TWO, {}),
    "0 and 128": (TWO * 128, {}),
    "1 bit": (TWO * 255, {"convert": lambda image, _: image.convert("1")}),
    "1 bit among 8 bits": (TWO * 255, {"convert": lambda image, n: image.convert("1") if n % 2 else image}),
    "0 and 1 among 0 and 255": (TWO * np.array([1, 255] * 3, np.uint8)[:, None, None], {}),
    "JPEG": (TWO * 255, {"name": "{}.jpg", "quality": 75}),
    "JPEG of 0 and 128": (TWO * 128, {"name": "{}.jpg", "quality": 60}),
    "16 bits": (TWO.astype(np.uint16) * 65535, {}),
    "RGB": (TWO * 255, {"convert": lambda image, _: image.convert("RGB")}),
    "RGBA": (TWO * 255, {"convert": lambda image, _: image.convert("RGBA")}),
    "white and black": (TWO * 255, {"convert": lambda image, _: image.convert("P")}),
    "BMP": (TWO * 255, {"name": "{}.bmp"}),
}


@pytest.mark.parametrize("name", TWO_CLASSES)
def test_two_classes(tmp_path, name):
    masks, options = TWO_CLASSES[name]
    data = write(tmp_path, masks, **options)
    assert (data.classes, data.ignore_index, data.labels.dtype) == (("0", "1"), None, np.uint8)
    np.testing.assert_array_equal(data.labels, TWO)


THREE_CLASSES = {
    "numbers": (TRUTH, {}),
    "16 bits": (TRUTH.astype(np.uint16), {"name": "{}.tif"}),
    "floats": (TRUTH.astype(np.float32), {"name": "{}.tif"}),
    "levels": (TRUTH * 127, {}),
    "levels in JPEG": (TRUTH * 127, {"name": "{}.jpg", "quality": 75}),
    "GIF": (TRUTH, {"name": "{}.gif"}),
    "palette": (TRUTH, {"convert": palette(PALETTE)}),
    "numbers in RGB": (TRUTH, {"convert": lambda image, _: image.convert("RGB")}),
}


@pytest.mark.parametrize("name", THREE_CLASSES)
def test_three_classes(tmp_path, name):
    masks, options = THREE_CLASSES[name]
    data = write(tmp_path, masks, **options)
    assert data.classes == ("0", "1", "2")
    np.testing.assert_array_equal(data.labels, TRUTH)


@pytest.mark.parametrize("convert", [shuffled, quantized, in_color])
def test_colors(tmp_path, convert):
    data = write(tmp_path, TRUTH, convert=convert)
    assert data.classes == ("#000000", "#008000", "#800000")
    np.testing.assert_array_equal(data.labels, np.array([0, 2, 1])[TRUTH])
    assert "masks are read by color: #000000, #008000, #800000 are classes 0 to 2" in data.notes
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nroad,0,0,0\ncar,128,0,0\nvoid,0,128,0\nbus,9,9,9\n")
    named = nc.data.load_folder(tmp_path)[0]
    assert (named.classes, named.ignore_index) == (("road", "car", "bus"), 255)
    np.testing.assert_array_equal(named.labels, np.array([0, 1, 255])[TRUTH])
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nroad,0,0,0\ncar,128,0,0\n")
    with pytest.raises(nc.DataError, match=r"masks hold 3 colors, #000000 \(.* %\).*; #008000 has no name"):
        nc.data.load_folder(tmp_path)


@pytest.mark.parametrize("convert", [palette(list(range(256)) * 3), lambda image, _: image])
def test_void(tmp_path, convert):
    data = write(tmp_path, VOID, convert=convert)
    assert (data.classes, data.ignore_index) == (("0", "1", "2"), 255)
    np.testing.assert_array_equal(data.labels, VOID)
    assert data.notes == (f"255 is void: {100 * (VOID == 255).mean():.1f} % of the pixels do not count",)
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n")
    assert nc.data.load_folder(tmp_path)[0].classes == ("ground", "cat", "dog")


def test_a_value_that_is_to_be_ignored(tmp_path):
    trimap = TRUTH + 1
    data = write(tmp_path, trimap)
    assert data.classes == ("0", "1", "2", "3")
    train, _ = nc.data.load(tmp_path, ignore_index=3)
    assert (train.classes, train.ignore_index) == (("0", "1", "2"), 255)
    assert set(np.unique(train.labels)) == {1, 2, 255}
    matting = np.array([0, 128, 255], np.uint8)[TRUTH]
    write(tmp_path / "matting", matting)
    train, _ = nc.data.load(tmp_path / "matting", ignore_index=128)
    assert (train.classes, set(np.unique(train.labels))) == (("0", "1"), {0, 1, 255})


def test_images_are_not_masks(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, TRUTH.shape).astype(np.uint8)
    with pytest.raises(nc.DataError, match=r"masks hold 256 values, \d+ \(0\.\d %\), .*; these are not classes; if"):
        write(tmp_path / "noise", noise)
    with pytest.raises(nc.DataError, match=r"masks hold .* values, 0 .*JPEG changes class numbers: save masks as PNG"):
        write(tmp_path / "jpeg", TRUTH, name="{}.jpg")
    colors = np.random.default_rng(0).integers(0, 256, (*TRUTH.shape, 3)).astype(np.uint8)
    with pytest.raises(nc.DataError, match=r"masks hold \d+ colors, #.*; these are not classes"):
        write(tmp_path / "colors", colors)
    with pytest.raises(nc.DataError, match="a mask holds numbers from 0 to 65535, not from -1 to 0"):
        write(tmp_path / "negative", -(TRUTH > 0).astype(np.int32), name="{}.tif")


def model(classes=3):
    return nc.Sequential([nc.Conv2D(4, 3, padding="same"), nc.ReLU(), nc.Conv2D(classes, 1)], (48, 64, 1))


@pytest.mark.parametrize("label", [255, -1, -100, 7])
def test_ignored_pixels_in_fit_and_evaluate(label):
    """Loss and measures equal those of the pixels that count, and the same training without their labels."""
    masks = np.where(VOID == 255, label, VOID.astype(np.int64))
    images, loss = TRUTH * 80, nc.losses.CrossEntropy(ignore_index=label)
    data = nc.data.Dataset.from_arrays(images, masks, ["a", "b", "c"], ignore_index=label)
    results = []
    for train, options in [(data, {}), ((images, masks), {"loss": loss}), (data, {"loss": loss})]:
        net = model()
        net.fit(train, epochs=2, batch_size=3, **options)
        results.append(net.evaluate(train, **options))
        probabilities = net.predict(images)
    assert results[0] == results[1] == results[2]
    counted = masks != label
    right = probabilities.argmax(axis=-1)[counted] == masks[counted]
    assert results[0]["accuracy"] == pytest.approx(right.mean(), abs=1e-9)
    expected = -np.log(np.take_along_axis(probabilities, np.where(counted, masks, 0)[..., None], 3)[..., 0][counted])
    assert results[0]["loss"] == pytest.approx(expected.mean(), rel=1e-4)


def test_ignored_images():
    images, labels = TRUTH * 80, np.array([0, 1, -100, 2, 1, -100])
    data = nc.data.Dataset.from_arrays(images, labels, ignore_index=-100)
    assert data.classes == ("0", "1", "2")
    net = nc.Sequential([nc.Flatten(), nc.Dense(3)], (48, 64, 1))
    net.fit((images, labels), loss=nc.losses.CrossEntropy(ignore_index=-100), epochs=1)
    assert net.report(data).confusion.sum() == 4
    assert net.evaluate(data)["accuracy"] == net.report(data).accuracy
    assert sorted(np.concatenate([split.labels for split in data.split(0.5)])) == [-100, -100, 0, 1, 1, 2]


@pytest.mark.parametrize("loss", ["dice", "cross_entropy_dice"])
def test_void_pixels_change_neither_the_training_nor_the_loss_of_an_overlap(loss):
    """Whatever is in void pixels of images: gradients are equal if a network sees each pixel alone."""
    images, noise = TRUTH * 80, np.random.default_rng(5).integers(0, 256, TRUTH.shape, np.uint8)
    found = []
    for pixels in (images, np.where(VOID == 255, noise, images)):
        net = nc.Sequential([nc.Conv2D(8, 1), nc.ReLU(), nc.Conv2D(3, 1)], (48, 64, 1), seed=0)
        net.normalization = Normalization.identity(1)
        data = nc.data.Dataset.from_arrays(pixels, VOID, ["a", "b", "c"], ignore_index=255)
        history = net.fit(data, loss=loss, epochs=2, batch_size=2, optimizer=nc.SGD(0.1))
        found.append((history["loss"], net.evaluate(data, loss), {k: np.array(v) for k, v in net.parameters.items()}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
    for name, array in found[0][2].items():
        np.testing.assert_allclose(array, found[1][2][name], rtol=1e-4, atol=1e-6)


def test_losses_that_count_every_label():
    data = nc.data.Dataset.from_arrays(TRUTH * 80, VOID, ["a", "b", "c"], ignore_index=255)
    with pytest.raises(nc.ArgumentError, match="label 255 of the data does not count; mse counts all"):
        model().fit(data, loss="mse", epochs=1)
    with pytest.raises(nc.ArgumentError, match="ignore_index=2: the data's label that does not count is 255"):
        model().fit(data, loss=nc.losses.CrossEntropy(ignore_index=2), epochs=1)
    with pytest.raises(nc.DataError, match="label 255 in image 0 is not a class number"):
        nc.data.Dataset.from_arrays(TRUTH * 80, VOID, ["a", "b", "c"])
