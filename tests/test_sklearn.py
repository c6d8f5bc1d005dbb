"""scikit-learn estimators: all of scikit-learn's checks, weights as copies, and the tools that people use them with."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from processes import run_python
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import numbacnn as nc
from numbacnn.losses.base import evaluate
from numbacnn.sklearn import CNNClassifier, CNNRegressor
from numbacnn.sklearn.regressor import _WeightedSquaredError


@parametrize_with_checks([CNNClassifier(), CNNRegressor()], xfail_strict=True)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def stripes(n, classes=("across", "down"), size=6, seed=0):
    """Noisy images (n, size, size) with a horizontal or a vertical stripe, and their names."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    images = rng.normal(0, 0.3, (n, size, size)).astype(np.float32)
    for image, label, line in zip(images, labels, rng.integers(0, size, n), strict=True):
        (image if label == 0 else image.T)[line] += 2
    return images, np.array(classes)[labels]


def quick(kind=CNNClassifier, **options):
    return kind(**{"epochs": 3, "random_state": 0, **options})


def test_the_defaults_read_digits():
    digits = load_digits()
    train, test, y, expected = train_test_split(digits.images, digits.target, random_state=0)
    model = CNNClassifier(random_state=0).fit(train, y)
    assert model.score(test, expected) >= 0.97
    assert model.loss_curve_[-1] < 0.02 < model.loss_curve_[0]


@pytest.mark.parametrize("shape", [(40, 6, 6), (40, 6, 6, 1), (40, 36)])
def test_images_have_every_form(shape):
    images, labels = stripes(40)
    expected = quick().fit(images, labels)
    model = quick(image_shape=None if len(shape) > 2 else (6, 6)).fit(images.reshape(shape), labels)
    assert (model.image_shape_, model.n_features_in_) == ((6, 6, 1), 36)
    assert model.classes_.tolist() == ["across", "down"]
    for form in (images, images[..., None], images.reshape(40, 36), images.tolist()):
        np.testing.assert_array_equal(model.predict_proba(form), expected.predict_proba(images))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (3, 7), (16, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_every_size(size, channels, rng):
    images, labels = rng.normal(size=(9, *size, channels)), np.arange(9) % 3
    assert quick(epochs=1).fit(images, labels).predict_proba(images).shape == (9, 3)


def test_bytes_become_images_as_a_model_takes_them():
    images, labels = stripes(40)
    pixels = np.clip(images * 80 + 60, 0, 255).astype(np.uint8)
    model = quick().fit(pixels, labels)
    expected = model.predict_proba(pixels)
    np.testing.assert_array_equal(model.predict_proba(pixels.astype(np.float64)), expected)
    np.testing.assert_allclose(model.model_.predict(pixels), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_weights_are_copies_and_the_order_does_not_matter(kind, rng):
    images, _ = stripes(30)
    y, copies = rng.integers(0, 3, 30), rng.integers(0, 4, 30)
    weighted = quick(kind).fit(images, y, sample_weight=copies * 0.5).predict(images)
    order = rng.permutation(np.repeat(np.arange(30), copies))
    repeated = quick(kind).fit(images[order], y[order])
    np.testing.assert_array_equal(repeated.predict(images), weighted)


def test_the_weighted_squared_error_has_its_gradient(rng):
    output, y, weight = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.uniform(0, 2, 5)
    target = np.hstack([y, weight[:, None]]).astype(np.float32)
    loss, gradient = evaluate(_WeightedSquaredError(), output, target)
    assert loss == pytest.approx((weight[:, None] * (output - y) ** 2).mean(), rel=1e-6)
    np.testing.assert_allclose(gradient, 2 * weight[:, None] * (output - y) / 15, rtol=1e-5, atol=1e-7)


def test_class_weights_are_sample_weights():
    images, labels = stripes(30)
    once = quick(class_weight={"down": 3}).fit(images, labels)
    weights = np.where(labels == "down", 3.0, 1.0)
    np.testing.assert_array_equal(
        once.predict_proba(images), quick().fit(images, labels, sample_weight=weights).predict_proba(images)
    )
    counts = {name: (labels == name).sum() for name in ("across", "down")}
    balanced = quick(class_weight="balanced").fit(images, labels).predict_proba(images)
    weights = {name: 30 / 2 / count for name, count in counts.items()}
    np.testing.assert_allclose(quick(class_weight=weights).fit(images, labels).predict_proba(images), balanced, 1e-4)


def test_a_grid_search_has_the_same_bits_in_two_processes():
    images, labels = stripes(60)
    pipeline = make_pipeline(MinMaxScaler(), quick(image_shape=(6, 6)))
    grid = {"cnnclassifier__learning_rate": [0.001, 0.01]}
    searches = [GridSearchCV(pipeline, grid, cv=2, n_jobs=jobs).fit(images.reshape(60, -1), labels) for jobs in (1, 2)]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_array_equal(*scores)
    np.testing.assert_array_equal(*[search.predict_proba(images.reshape(60, -1)) for search in searches])


def test_cross_validation_takes_images():
    assert cross_val_score(quick(epochs=8), *stripes(120), cv=3).min() > 0.8


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_partial_fit_continues_also_after_pickling(kind):
    images, labels = stripes(60)
    y, classes = (labels == "down").astype(int), {"classes": [0, 1]} if kind is CNNClassifier else {}
    model = quick(kind).partial_fit(images[:30], y[:30], **classes)
    copy = pickle.loads(pickle.dumps(model))
    results = [each.partial_fit(images[30:], y[30:]).predict(images) for each in (model, copy)]
    np.testing.assert_array_equal(*results)
    assert len(model.loss_curve_) == 2
    for _ in range(15):
        model.partial_fit(images, y)
    assert (np.round(model.predict(images)) == y).mean() > 0.9


def test_partial_fit_takes_parts_without_some_classes():
    images, labels = stripes(20)
    down = labels == "down"
    model = quick().partial_fit(images[down], labels[down], classes=["across", "down", "neither"])
    assert model.partial_fit(images[~down], labels[~down]).predict_proba(images).shape == (20, 3)
    with pytest.raises(ValueError, match=r"classes \['up'\] that are not among \['across', 'down', 'neither'\]"):
        model.partial_fit(images, ["up"] * 20)
    with pytest.raises(ValueError, match=r"but the first part had \['across', 'down', 'neither'\]"):
        model.partial_fit(images, labels, classes=["across", "down"])
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        clone(model).partial_fit(images, labels)


def test_a_regressor_learns_two_numbers_in_their_own_scale():
    images, _ = stripes(200)
    y = np.stack([images[:, 0].mean(axis=1) * 1000 + 5000, images[:, :, 5].mean(axis=1)], axis=1)
    model = quick(CNNRegressor, epochs=20).fit(images, y)
    assert model.predict(images).shape == (200, 2)
    assert model.score(images, y) > 0.8
    assert clone(model).fit(images, y[:, 0]).predict(images).shape == (200,)


def small(input_shape, classes, seed):
    return nc.Sequential([nc.Conv2D(3, 3), nc.ReLU(), nc.Flatten(), nc.Dense(classes)], input_shape, seed=seed)


@pytest.mark.parametrize(("architecture", "layers"), [("simple_cnn", 10), (nc.models.simple_cnn, 10), (small, 4)])
def test_architectures_have_names_or_are_functions(architecture, layers, tmp_path):
    images, labels = stripes(20)
    model = quick(architecture=architecture, epochs=1).fit(images, labels)
    assert len(model.model_.graph.nodes) == layers
    model.model_.save(tmp_path / "model.safetensors")
    loaded = nc.load(tmp_path / "model.safetensors")
    assert (loaded.classes, loaded.task) == (("across", "down"), "classify")
    np.testing.assert_array_equal(loaded.predict(images[..., None]), model.predict_proba(images))


def test_optimizers_have_names_or_are_copied():
    images, labels = stripes(20)
    given = nc.SGD(0.05, momentum=0.5)
    model = quick(optimizer=given, learning_rate=None).fit(images, labels)
    assert given.steps == 0
    again = quick(optimizer="sgd", learning_rate=0.05).fit(images, labels)
    assert (model._optimizer.momentum, again._optimizer.momentum) == (0.5, 0.9)


def everywhere(input_shape, classes, seed):
    """A class for each pixel."""
    return nc.Sequential([nc.Conv2D(classes, 1)], input_shape, seed=seed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "lenet"}, "unknown architecture 'lenet'; did you mean 'lenet5'?"),
        ({"architecture": everywhere}, r"output has shape \(6, 6, 2\); it has to be \(2,\)"),
        ({"optimizer": "adamm"}, "unknown optimizer 'adamm'; did you mean 'adam'?"),
        ({"optimizer": 3}, 'optimizer=3: pass a name such as "adam"'),
        ({"image_shape": (6, 7)}, "X has images of 6×6×1, but the network is for 6×7×1"),
        ({"image_shape": 36}, r"image_shape=36: pass \(h, w, channels\)"),
        ({"schedule": "plateau"}, "watches a validation loss, which an estimator does not have"),
        ({"epochs": 0}, "epochs=0: pass a whole number of at least 1"),
        ({"batch_size": 0.5}, "batch_size=0.5: pass a whole number of at least 1"),
        ({"class_weight": {"up": 2}}, r"class_weight={'up': 2}: pass \"balanced\" or weights of \['across', 'down'\]"),
        ({"learning_rate": -1}, "learning_rate=-1: pass a number of at least 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        quick(**options).fit(*stripes(20))


def test_rows_are_no_images_of_another_shape():
    images, labels = stripes(20)
    rows = images.reshape(20, 36)
    with pytest.raises(ValueError, match="image_shape 5×7×1 has 35 numbers; a row of X, 36"):
        quick(image_shape=(5, 7)).fit(rows, labels)
    with pytest.raises(ValueError, match=r"architecture='lenet5' is for images, .* pass image_shape"):
        quick(architecture="lenet5").fit(rows, labels)
    with pytest.raises(ValueError, match="X has images of 6×6×1, but the network is for rows of features"):
        quick().fit(rows, labels).predict(images)
    with pytest.raises(ValueError, match=r"all samples have one class, \['down'\]; at least two are needed"):
        quick().fit(rows, labels, sample_weight=labels == "down")
    with pytest.raises(ValueError, match="weights must be at least zero"):
        quick().fit(rows, labels, sample_weight=np.full(20, -1))
    with pytest.raises(nc.NumbacnnError, match="the loss is nan in epoch 1; use a smaller learning_rate"):
        quick(CNNRegressor, optimizer="sgd", learning_rate=1e30).fit(rows, np.arange(20))


def test_without_scikit_learn_the_error_names_the_extra():
    script = "import sys; sys.modules['sklearn'] = None; import numbacnn\ntry: import numbacnn.sklearn\n"
    script += "except numbacnn.NumbacnnError as error: print(error)"
    assert "sklearn" not in run_python("-c", "import sys, numbacnn; print(*sys.modules)").split()
    assert run_python("-c", script).strip().endswith("pip install 'numbacnn[sklearn]'")


# -- early stopping, augmentation and devices -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_early_stopping_keeps_the_best_epoch(kind):
    images, names = stripes(60)
    y = names if kind is CNNClassifier else (names == "up").astype(float) + images.mean(axis=(1, 2))
    options = {"epochs": 40, "learning_rate": 0.01, "early_stopping": True, "n_iter_no_change": 3}
    model = quick(kind, **options).fit(images, y)
    scores = model.validation_scores_
    assert model.n_iter_ == len(scores) == len(model.loss_curve_) < 40
    assert model.best_validation_score_ == max(scores)
    best = int(np.argmax(scores))
    assert len(scores) - 1 - best <= 2 * 3  # rises of less than tol do not count
    again = quick(kind, **options).fit(images, y)
    np.testing.assert_array_equal(model.predict(images), again.predict(images))


def test_early_stopping_measures_the_samples_that_it_holds_out(monkeypatch):
    images, names = stripes(50)
    model = quick(early_stopping=True, validation_fraction=0.2)
    monkeypatch.setattr(type(model), "_train", lambda self, samples, epochs, schedule, held_out: None)
    divided = []
    original = type(model)._split
    monkeypatch.setattr(
        type(model), "_split", lambda self, samples: divided.append(original(self, samples)) or divided[0]
    )
    model.fit(images, names)
    (kept, held_out) = divided[0]
    assert (len(kept[0]), len(held_out[0])) == (40, 10)
    rows = {row.tobytes() for row in np.concatenate([kept[0], held_out[0]])}
    assert len(rows) == 50
    shares = [np.mean(part[1]) for part in (kept, held_out)]
    assert abs(shares[0] - shares[1]) < 0.06  # as many of each class


def test_augmentation_changes_the_images_of_every_epoch():
    images, names = stripes(60)
    plain, moved = quick().fit(images, names), quick(augment="translate=2").fit(images, names)
    assert plain.loss_curve_ != moved.loss_curve_
    again = quick(augment="translate=2").fit(images, names)
    np.testing.assert_array_equal(moved.predict_proba(images), again.predict_proba(images))
    np.testing.assert_array_equal(
        quick(augment=nc.augment.HorizontalFlip(p=0)).fit(images, names).predict(images), plain.predict(images)
    )


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_an_estimator_runs_on_another_device(kind):
    images, names = stripes(16)
    y = names if kind is CNNClassifier else images.mean(axis=(1, 2))
    small = {"architecture": dense, "epochs": 1}
    model = quick(kind, device="reference", **small).fit(images, y)
    assert model.model_.device.name == "reference"
    expected = quick(kind, **small).fit(images, y)
    np.testing.assert_allclose(model.model_.predict(images), expected.model_.predict(images), rtol=1e-3, atol=1e-4)


def dense(input_shape, classes, seed):
    return nc.Sequential([nc.Flatten(), nc.Dense(classes)], input_shape, seed=seed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": "mixup=1"}, "transforms of images that leave the labels as they are"),
        ({"augment": "spin"}, "unknown"),
        ({"device": "tpu"}, "device"),
        ({"early_stopping": True, "validation_fraction": 1.5}, "validation_fraction=1.5: pass a number above 0"),
        ({"early_stopping": True, "validation_fraction": 0.999}, "20 distinct samples cannot be divided"),
        ({"early_stopping": True, "n_iter_no_change": 0}, "n_iter_no_change=0"),
    ],
)
def test_wrong_options_of_a_training_are_named(options, message):
    images, names = stripes(20)
    with pytest.raises(ValueError, match=message):
        quick(**options).fit(images, names)


def test_a_search_with_early_stopping_has_the_bits_of_one_job():
    images, names = stripes(60)
    found = []
    for jobs in (1, 2):
        search = GridSearchCV(
            quick(epochs=6, early_stopping=True, n_iter_no_change=2, augment="translate=1"),
            {"learning_rate": [0.003, 0.03]},
            cv=2,
            n_jobs=jobs,
        ).fit(images, names)
        found.append((search.cv_results_["mean_test_score"], search.best_estimator_.predict_proba(images)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
