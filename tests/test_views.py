"""Test-time augmentation: the views of an image, and predictions averaged over them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numbacnn as nc
from numbacnn.tasks.views import MAX_VIEWS, Views

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 2)).astype(np.uint8)
LABELS = np.arange(5) % 3


def shifted(images, rows, columns):
    """Return images moved by whole pixels, in plain loops."""
    moved = np.zeros_like(images)
    height, width = images.shape[1:3]
    for y in range(height):
        for x in range(width):
            if 0 <= y + rows < height and 0 <= x + columns < width:
                moved[:, y, x] = images[:, y + rows, x + columns]
    return moved


def as_set(images):
    return {image.tobytes() for image in images}


@pytest.mark.parametrize("images", [IMAGES, IMAGES.astype(np.float32) / 7])
@pytest.mark.parametrize("padding", [0, 1, 6])
def test_crop_gives_all_shifts(images, padding):
    views = Views([nc.augment.Crop(padding)])
    reach = range(-padding, padding + 1)
    expected = [shifted(images, rows, columns) for rows in reach for columns in reach]
    found = list(views.of(images))
    assert len(found) == len(views) == len(expected)
    assert as_set(found) == as_set(expected)
    assert all(view.dtype == images.dtype and view.flags.c_contiguous for view in found)


def test_flips_double_the_views():
    shifts = [shifted(IMAGES, rows, columns) for rows in (-1, 0, 1) for columns in (-1, 0, 1)]
    expected = {view.tobytes() for each in shifts for view in (each, each[:, ::-1], each[:, :, ::-1])}
    expected |= {each[:, ::-1, ::-1].tobytes() for each in shifts}
    views = Views("vflip@0.1, crop=1, hflip")
    assert len(views) == 36
    assert as_set(views.of(IMAGES)) == expected


@pytest.mark.parametrize(
    ("tta", "message"),
    [
        ("rotate=10", "tta: rotate=10 has no fixed set of views; use crop, hflip and vflip"),
        ("hflip, hflip", "tta: hflip, hflip repeats a transform"),
        ("crop=7", f"tta: crop=7 makes 225 views of each image, more than {MAX_VIEWS}"),
        ("hflop", r"tta='hflop': .*hflip"),
        ("crop", "tta='crop': 'crop' needs"),
        (3, "tta=3: pass text such as 'crop=1, hflip', or transforms"),
        (nc.augment.Compose(nc.augment.Crop(1), fill=0.5), "tta: crop=1; fill 0.5; .* leave fill out"),
    ],
)
def test_other_transforms_are_rejected(tta, message):
    with pytest.raises(nc.ArgumentError, match=message):
        Views(tta)


def flipping_model(*head, **options):
    """Return a model of 6×7×2 images whose outputs change when the image is mirrored or moved."""
    return nc.Sequential([nc.Conv2D(3, 3), nc.Flatten(), *head], input_shape=(6, 7, 2), seed=1, **options)


HEADS = {
    "logits": [nc.Dense(3)],
    "softmax": [nc.Dense(3), nc.Softmax()],
    "logit": [nc.Dense(1)],
    "sigmoid": [nc.Dense(1), nc.Sigmoid()],
}


@pytest.mark.parametrize("head", HEADS)
def test_probabilities_are_averaged(head):
    model, tta = flipping_model(*HEADS[head]), "crop=1, hflip"
    expected = np.mean([model.predict(view).astype(np.float64) for view in Views(tta).of(IMAGES)], axis=0)
    assert not np.allclose(model.predict(IMAGES), expected, atol=1e-4)
    for batch_size in (2, 256):
        assert np.allclose(model.predict(IMAGES, batch_size, tta=tta), expected, atol=1e-6)
    labels = LABELS % expected.shape[1]
    found = model.evaluate(IMAGES, labels, tta=tta)
    assert found["loss"] == pytest.approx(-np.log(expected[range(5), labels]).mean(), rel=1e-5)
    assert found["accuracy"] == (expected.argmax(1) == labels).mean()
    report = model.report(IMAGES, labels, tta=tta)
    assert np.trace(report.confusion) == (expected.argmax(1) == labels).sum()


LOSSES = ["cross_entropy", "focal", "mse", "l1", "huber", "binary_cross_entropy", lambda x, y: (float(x.mean()), x)]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("tta", ["", "crop=0", "vflip"])
def test_equal_views_change_nothing(loss, tta):
    model, images = flipping_model(nc.Dense(3)), np.concatenate([IMAGES[:, :3], IMAGES[:, 2::-1]], axis=1)
    labels = np.eye(3, dtype=np.float32)[LABELS] if loss == "binary_cross_entropy" else LABELS
    wanted = {"metrics": ["f1"]} if labels is LABELS else {}
    expected = model.evaluate(images, labels, loss, **wanted)
    assert model.evaluate(images, labels, loss, tta=tta, **wanted) == pytest.approx(expected, rel=1e-5)


def test_the_mean_squared_error_is_that_of_averaged_outputs():
    model, target = flipping_model(nc.Dense(3)), np.eye(3)[LABELS]
    mean = np.mean([model.forward(model.normalized(view)) for view in Views("hflip").of(IMAGES)], axis=0)
    found = model.evaluate(IMAGES, LABELS, "mse", tta="hflip")["loss"]
    assert found == pytest.approx(((mean.reshape(5, 3) - target) ** 2).mean(), rel=1e-5)


def test_the_reference_device_agrees():
    found = []
    for device in ("cpu", "reference"):
        model = flipping_model(nc.Dense(3), device=device)
        found.append(model.evaluate(IMAGES, LABELS, tta="crop=1")["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_every_output_is_averaged():
    x = nc.Input((6, 7, 2))
    features = nc.Flatten()(nc.Conv2D(3, 3)(x))
    model = nc.Model(x, [nc.Dense(3, name="a")(features), nc.Dense(3, name="b")(features)], seed=2)
    views = [model.forward(model.normalized(view)) for view in Views("hflip").of(IMAGES)]
    found = model.evaluate(IMAGES, LABELS, tta="hflip")
    for index, name in enumerate("ab"):
        logits = np.array([view[index].reshape(5, 3) for view in views], np.float64)
        p = (np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)).mean(axis=0)
        assert found[f"loss.{name}"] == pytest.approx(-np.log(p[range(5), LABELS]).mean(), rel=1e-5)


def test_ignored_labels_do_not_count():
    labels = np.where(LABELS == 2, 9, LABELS)
    model, loss = flipping_model(nc.Dense(3)), nc.losses.CrossEntropy(ignore_index=9)
    counted = labels != 9
    expected = model.evaluate(IMAGES[counted], labels[counted], tta="hflip")["loss"]
    assert model.evaluate(IMAGES, labels, loss, tta="hflip")["loss"] == pytest.approx(expected, rel=1e-6)


def test_infinite_logits_give_nan_without_a_warning():
    model = flipping_model(nc.Dense(3))
    model.set_parameters({name: np.full_like(value, np.inf) for name, value in model.parameters.items()})
    assert not np.isfinite(model.predict(IMAGES, tta="hflip")).any()


def test_no_images_give_no_predictions():
    model = flipping_model(nc.Dense(3))
    assert model.predict(IMAGES[:0], tta="hflip").shape == model.predict(IMAGES[:0]).shape


def test_tags_and_numbers_are_averaged():
    model, views = flipping_model(nc.Dense(3)), Views("hflip")
    for task in ("tag", "regress"):
        model.task = task
        expected = np.mean([model.predict(view).astype(np.float64) for view in views.of(IMAGES)], axis=0)
        assert np.allclose(model.predict(IMAGES, tta="hflip"), expected, rtol=1e-5, atol=1e-6)


def test_far_logits_do_not_underflow():
    model = flipping_model(nc.Dense(3))
    model.set_parameters({name: 3000 * value for name, value in model.parameters.items()})
    images, labels = IMAGES.astype(np.float32) / 100, LABELS
    assert np.ptp(model.forward(images)) > 1e4
    assert np.isfinite(model.evaluate(images, labels, tta="hflip")["loss"])


@given(st.integers(0, 2), st.booleans(), st.booleans(), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
def test_an_even_image_has_equal_views(padding, horizontal, vertical, height, width, channels):
    tta = ", ".join([f"crop={padding}", *["hflip"] * horizontal, *["vflip"] * vertical])
    images = np.zeros((1, height, width, channels), np.uint8)
    found = list(Views(tta).of(images))
    assert len(found) == len(Views(tta)) == (2 * padding + 1) ** 2 * (1 + horizontal) * (1 + vertical)
    assert as_set(found) == as_set([images])


def test_models_without_one_row_of_outputs_are_rejected():
    segmenter = nc.Sequential([nc.Conv2D(3, 1)], input_shape=(6, 7, 2))
    with pytest.raises(nc.ArgumentError, match=r"this one gives a map \(6, 7, 3\)"):
        segmenter.predict(IMAGES, tta="hflip")
    features = nc.Sequential([nc.Dense(3)], input_shape=(4,))
    with pytest.raises(nc.ArgumentError, match=r"tta is for models whose only input is an image; this one has \(4,\)"):
        features.evaluate(np.zeros((5, 4), np.float32), LABELS, tta="hflip")
