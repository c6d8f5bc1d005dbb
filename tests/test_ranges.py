"""Images of another scale than the training images: converted with a warning if that is certain, rejected otherwise."""

import warnings

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.data.normalization import Normalization, TrainingImages

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 1), dtype=np.uint8)
PIXELS[0, 0, :2, 0] = 0, 255
FORMS = {
    "uint8": PIXELS,
    "0 to 1": PIXELS / np.float32(255),
    "float64 0 to 1": PIXELS / 255,
    "0 to 255": PIXELS.astype(np.float32),
    "-1 to 1": PIXELS / np.float32(127.5) - np.float32(1),
    "0 to 65535": PIXELS * np.float32(257),
}
LABELS = np.arange(4) % 2


def fitted(images):
    """A model with the normalization of these images."""
    model = nc.Sequential([nc.Flatten(), nc.Dense(2)], images.shape[1:])
    model.normalization = Normalization.of(nc.data.Dataset.from_arrays(images, LABELS))
    return model


@pytest.mark.parametrize("given", FORMS)
@pytest.mark.parametrize("trained", FORMS)
def test_every_scale_gives_the_same_input(trained, given):
    if (trained, given) == ("0 to 65535", "0 to 255"):
        pytest.skip("rejected, below: dark 16-bit images look the same")
    model = fitted(FORMS[trained])
    same = trained == given or {trained, given} <= {"uint8", "0 to 1", "float64 0 to 1"}
    expected = (PIXELS / 255 - PIXELS.mean() / 255) / (PIXELS.std() / 255)
    with warnings.catch_warnings() if same else pytest.warns(UserWarning, match="were converted to the scale"):
        found = model.normalized(FORMS[given])
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_fit_and_evaluate_convert(tmp_path):
    model = nc.Sequential([nc.Flatten(), nc.Dense(2)], (6, 6, 1))
    with pytest.warns(UserWarning, match="8-bit images were converted to the scale .* 0 to 255"):
        history = model.fit((FORMS["0 to 255"], LABELS), validation=(PIXELS, LABELS), epochs=2, batch_size=4)
    assert history.epochs[-1].validation_loss == pytest.approx(model.evaluate((FORMS["0 to 255"], LABELS))["loss"])
    model.save(tmp_path / "m.safetensors")
    loaded = nc.load(tmp_path / "m.safetensors")
    assert loaded.normalization == model.normalization
    assert loaded.normalization.images == TrainingImages("float32", 0, 255, False)
    form = loaded.normalization.images._asdict()
    earlier = {name: form[name] for name in ("dtype", "low", "high")}  # without what was added later
    assert TrainingImages.from_dict(earlier) == TrainingImages("float32", 0, 255)
    before = model.normalization
    with pytest.warns(UserWarning, match="images from 0 to 1 were converted"):
        model.fit((FORMS["0 to 1"], LABELS), epochs=1, batch_size=4)
    assert model.normalization == before


@pytest.mark.parametrize(
    ("trained", "given", "message"),
    [
        ("0 to 1", FORMS["0 to 255"] * 16, "images from 0 to 4080 for a model that was trained on images from 0 to 1"),
        ("0 to 1", FORMS["-1 to 1"] * 300, "images from -300 to 300"),
        ("0 to 255", (PIXELS > 127).astype(np.float32), "images from 0 to 1 .* from 0 to 255"),
        ("0 to 65535", FORMS["0 to 255"], "images from 0 to 255 .* from 0 to 65535; pass numbers from 0 to 65535, or"),
        ("standardized", PIXELS, "8-bit images for a model that was trained on floats from -3 to 3"),
        ("standardized", FORMS["0 to 255"], "images from 0 to 255 .* from -3 to 3; convert them in the same way"),
    ],
)
def test_uncertain_conversions_are_rejected(trained, given, message):
    model = fitted(3 * FORMS["-1 to 1"] if trained == "standardized" else FORMS[trained])
    with pytest.raises(nc.ArgumentError, match=message):
        model.predict(given)


@pytest.mark.parametrize("trained", ["uint8", "0 to 1", "0 to 255", "0 to 65535"])
def test_black_and_slightly_exceeding_images_are_kept(trained):
    model = fitted(FORMS[trained])
    largest = {"uint8": 1}.get(trained, float(FORMS[trained].max()))
    mean, std = (np.array(part) for part in model.normalization[:2])
    for image in (np.zeros((1, 6, 6, 1), np.float32), np.linspace(-0.05, 1.3, 36).reshape(1, 6, 6, 1) * largest):
        np.testing.assert_allclose(model.normalized(image), (image - mean) / std, rtol=1e-4, atol=1e-4)


def test_features_have_no_scale():
    model = nc.Sequential([nc.Dense(2)], (3,))
    model.normalization = Normalization((0.0,) * 3, (1.0,) * 3, TrainingImages("float32", 0, 1))
    assert model.predict(np.full((1, 3), 1e6, np.float32)).shape == (1, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16, np.bool_])
def test_forward_and_train_step_reject_integers(dtype):
    model = nc.Sequential([nc.Flatten(), nc.Dense(2)], (6, 6, 1))
    message = f"input is {np.dtype(dtype)}; pass normalized floats, model.normalized"
    with pytest.raises(nc.ArgumentError, match=message):
        model.forward(PIXELS.astype(dtype))
    with pytest.raises(nc.ArgumentError, match=message):
        model.train_step(PIXELS.astype(dtype), LABELS, nc.SGD())
