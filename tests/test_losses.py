"""Losses: values and gradients over the table of cases, extreme values, objects and names, and errors."""

import numpy as np
import pytest
from engine import assert_close, generator_of
from loss_cases import CASES, DRAWS, oracle

import numbacnn as nc
from numbacnn.errors import ArgumentError
from numbacnn.losses import LOSSES, get_loss
from numbacnn.training.objective import make_objective

L = nc.losses
NAN, INF = np.nan, np.inf
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_loss_has_a_function_and_cases():
    assert set(DRAWS) == set(LOSSES)
    assert all(callable(getattr(L, name)) for name in LOSSES)


@every_case
def test_oracle_gradients_match_a_central_difference(case):
    outputs, _, target = case.arrays()
    outputs = outputs.astype(np.float64)
    direction, step = generator_of(f"direction {case}").standard_normal(case.shape), 1e-5
    values = [oracle(case.name, outputs + t * direction, target, **case.options)[0] for t in (step, -step)]
    slope = (values[0] - values[1]) / (2 * step)
    parts = oracle(case.name, outputs, target, **case.options)[1] * direction
    assert abs(slope - parts.sum()) <= 1e-6 * np.abs(parts).sum() + 1e-10, f"{parts.sum()!r}, by difference {slope!r}"


@every_case
def test_losses_and_gradients_match_the_oracle(case):
    outputs, _, target = case.arrays()
    loss, dy = case.ours()
    expected, gradient = oracle(case.name, outputs.astype(np.float64), target, **case.options)
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert_close(dy, gradient, str(case))


# -- targets ----------------------------------------------------------------------------------------------------------


def test_labels_may_have_any_integer_type_or_be_lists():
    outputs = np.eye(3, dtype=np.float32)
    expected = L.cross_entropy(outputs, np.array([0, 2, 1]))[0]
    for labels in ([0, 2, 1], np.array([0, 2, 1], np.uint8), np.array([[0], [2], [1]], np.int16)):
        assert L.cross_entropy(outputs, labels)[0] == expected


def test_mse_takes_integers_in_the_shape_of_the_outputs_as_numbers():
    assert L.mse(np.zeros((2, 3), np.float32), np.full((2, 3), 2))[0] == 4.0


def test_binary_cross_entropy_takes_labels_0_and_1_of_a_single_logit():
    loss, dy = L.binary_cross_entropy(np.zeros((2, 1)), [0, 1])
    assert loss == pytest.approx(np.log(2), rel=1e-6)
    np.testing.assert_array_equal(dy, [[0.25], [-0.25]])


def test_ignored_pixels_do_not_count_even_if_they_are_nan(rng):
    x, labels = rng.standard_normal((2, 3, 4, 5)).astype(np.float32), rng.integers(0, 5, (2, 3, 4))
    labels[0, 1] = labels[1, 2, 3] = 255
    x[labels == 255] = NAN
    kept = labels != 255
    for function in (L.cross_entropy, L.focal):
        loss, dy = function(x, labels, ignore_index=255)
        expected, gradient = function(x[kept], labels[kept])
        assert loss == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(dy[kept], gradient, rtol=1e-6)
        np.testing.assert_array_equal(dy[~kept], 0)


def test_if_all_labels_are_ignored_loss_and_gradient_are_zero():
    loss, dy = L.cross_entropy(np.ones((3, 4)), np.full(3, -1), ignore_index=-1)
    assert loss == 0.0
    np.testing.assert_array_equal(dy, np.zeros((3, 4), np.float32))


def test_the_focal_loss_with_gamma_0_is_cross_entropy(rng):
    x, labels, weights = rng.standard_normal((9, 5)), rng.integers(0, 5, 9), [1, 0, 2, 3, 0.5]
    loss, dy = L.focal(x, labels, gamma=0, class_weights=weights)
    expected, gradient = L.cross_entropy(x, labels, class_weights=weights)
    assert loss == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(dy, gradient, rtol=1e-5, atol=1e-9)


def test_dice_of_a_confident_correct_prediction_is_zero_also_for_absent_classes():
    labels = np.array([[[0, 0], [1, 1]]])  # of three classes
    loss, dy = L.dice(60 * np.eye(3)[labels], labels)
    assert loss == pytest.approx(0, abs=1e-6)
    assert np.abs(dy).max() < 1e-6
    wrong, _ = L.dice(60 * np.eye(3)[1 - labels], labels)
    assert wrong == pytest.approx(2 / 3 * (1 - 1 / 5), rel=1e-6)  # (2·0 + 1) / (2 + 2 + 1) of two classes


# -- extremes ---------------------------------------------------------------------------------------------------------

HUGE = np.array([[1e30, -1e30, 0], [-1e30, 1e30, 1e30], [-1e30, -1e30, -1e30], [3e38, 0, -3e38]], np.float32)
LABELS = {
    "cross_entropy": np.array([0, 1, 2, 0]),
    "focal": np.array([0, 1, 2, 0]),
    "dice": np.array([0, 1, 2, 0]),
    "binary_cross_entropy": np.array([0, 1, 2, 0]),
    "sigmoid_focal": np.array([0, 1, 2, 0]),
}


@pytest.mark.parametrize("name", LABELS)
def test_huge_logits_neither_overflow_nor_give_nan(name):
    _, dy = getattr(L, name)(HUGE, LABELS[name])
    assert np.isfinite(dy).all()
    loss, dy = getattr(L, name)(HUGE[:3], LABELS[name][:3])
    assert np.isfinite(loss)
    if name in ("cross_entropy", "focal"):
        expected, gradient = oracle(name, HUGE[:3].astype(np.float64), LABELS[name][:3])
        assert loss == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(dy, gradient, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("as_probabilities", [False, True])
def test_cross_entropy_of_huge_logits(as_probabilities):
    logits, labels = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32), np.array([1, 1])
    loss, dy = L.cross_entropy(logits, np.eye(2)[labels] if as_probabilities else labels)
    assert loss == pytest.approx(1e4)  # the mean of 20,000 and 0
    np.testing.assert_array_equal(dy, np.array([[0.5, -0.5], [0, 0]], np.float32))


def test_confident_mistakes_cost_the_difference_of_the_logits():
    x = np.array([[1e30, -1e30]], np.float32)
    assert L.cross_entropy(x, [1])[0] == pytest.approx(2e30)
    assert L.focal(x, [1])[0] == pytest.approx(2e30)
    assert L.binary_cross_entropy(x, [[0, 1]])[0] == pytest.approx(1e30)
    assert L.sigmoid_focal(x, [[0, 1]], alpha=0.5)[0] == pytest.approx(0.5e30)
    np.testing.assert_array_equal(L.cross_entropy(x, [1])[1], [[1, -1]])
    np.testing.assert_array_equal(L.focal(x, [1])[1], [[1, -1]])
    np.testing.assert_array_equal(L.binary_cross_entropy(x, [[0, 1]])[1], [[0.5, -0.5]])


def test_gradients_of_small_mistakes_keep_their_precision():
    """1 − p is not computed as a difference: for logits 20 apart it is 2e-9, below the rounding of 1."""
    x, wrong = np.array([[20, 0]], np.float32), 1 / (1 + np.exp(20.0))
    np.testing.assert_allclose(L.cross_entropy(x, [0])[1], [[-wrong, wrong]], rtol=1e-6)
    expected, gradient = oracle("binary_cross_entropy", x.astype(np.float64), np.array([[1, 0]]))
    loss, dy = L.binary_cross_entropy(x, [[1, 0]])
    assert loss == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(dy, gradient, rtol=1e-6)
    loss, dy = L.focal(x, [0], gamma=1)
    assert loss == pytest.approx(wrong**2, rel=1e-5)
    np.testing.assert_allclose(dy, [[-2 * wrong**2, 2 * wrong**2]], rtol=1e-5)


@pytest.mark.parametrize("x", np.linspace(-25, 25, 101).astype(np.float32))
def test_log_sigmoid_is_accurate_to_a_few_ulps(x):
    expected = np.logaddexp(0, -np.float64(x))
    assert L.binary_cross_entropy([[x]], [[1.0]])[0] == pytest.approx(expected, rel=4e-7)


def test_a_logit_of_minus_infinity_costs_nothing_unless_its_class_is_the_target():
    x = np.array([[0, -INF]], np.float32)
    assert L.cross_entropy(x, [0])[0] == 0.0
    assert L.cross_entropy(x, np.array([[1.0, 0.0]]))[0] == 0.0
    assert L.cross_entropy(x, [0], label_smoothing=0.1, class_weights=[1, 0])[0] == 0.0
    assert L.focal(x, [0])[0] == 0.0
    for function in (L.binary_cross_entropy, L.sigmoid_focal):
        loss, dy = function(np.array([[INF, -INF]], np.float32), [[1, 0]])
        assert loss == 0.0
        np.testing.assert_array_equal(dy, [[0, 0]])
    for function in (L.cross_entropy, L.focal):
        loss, dy = function(x, [1])
        assert loss == INF
        np.testing.assert_array_equal(dy, [[1, -1]])


@pytest.mark.parametrize("name", LOSSES)
def test_nan_stays_in_its_row(name):
    x = np.zeros((2, 3), np.float32)
    x[0, 1] = NAN
    loss, dy = getattr(L, name)(x, np.array([1, 2]))
    assert np.isnan(loss)
    assert np.isnan(dy[0, 1])
    assert np.isfinite(dy[1]).all()


# -- objects and names ------------------------------------------------------------------------------------------------


def test_get_loss_takes_names_and_objects():
    assert get_loss("mse") is LOSSES["mse"]
    assert get_loss(L.Huber(2.0)) == L.Huber(delta=2.0)
    with pytest.raises(ArgumentError, match="did you mean 'cross_entropy'"):
        get_loss("crossentropy")
    for wrong in (L.CrossEntropy, 3, None):
        with pytest.raises(ArgumentError, match=r"pass a name, cross_entropy.*losses.CrossEntropy\(\)"):
            get_loss(wrong)


def test_the_repr_shows_all_options():
    assert repr(L.CrossEntropy(0.1, np.array([1, 2]))) == (
        "CrossEntropy(label_smoothing=0.1, class_weights=(1.0, 2.0), ignore_index=None)"
    )
    assert repr(L.BinaryCrossEntropy([1, 2])) == "BinaryCrossEntropy(pos_weight=(1.0, 2.0))"


class Halved(L.Loss):
    """A custom loss in NumPy: half the squared error."""

    name = "halved"

    def launch(self, kernels, losses, dx, x, target, scale):
        losses[:] = 0.5 * ((x - target) ** 2).sum(-1).reshape(-1)
        dx[...] = scale * (x - target)


def test_a_custom_loss_is_trained_and_evaluated():
    model = nc.Sequential([nc.Dense(2)], (3,))
    x, labels = np.eye(3, dtype=np.float32), np.array([0, 1, 1])
    y = model.forward(x)
    loss = model.train_step(x, labels, nc.SGD(0.1), loss=Halved())
    assert loss == pytest.approx(0.5 * ((y - np.eye(2)[labels]) ** 2).sum() / 3, rel=1e-6)
    assert model.train_step(x, labels, nc.SGD(0.0), loss=Halved()) < loss


def squared(outputs, labels):
    difference = outputs - np.eye(3)[labels]
    return np.mean(difference**2), 2 * difference / difference.size


def test_a_function_of_arrays_is_a_loss(rng):
    x, y = rng.integers(0, 255, (20, 4, 4, 1), np.uint8), np.arange(20) % 3
    found = []
    for loss in (squared, "mse"):
        model = nc.Sequential([nc.Flatten(), nc.Dense(3)], (4, 4, 1), seed=0)
        history = model.fit(x, y, loss=loss, epochs=3, batch_size=8, validation=(x, y))
        found.append([model.evaluate(x, y, loss=loss)["loss"], *(record.loss for record in history.epochs)])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    images = nc.Sequential([nc.Conv2D(3, 1)], (4, 4, 1), seed=0)
    masks = rng.integers(0, 3, (20, 4, 4))
    assert images.evaluate(x, masks, squared)["loss"] == pytest.approx(
        images.evaluate(x, masks, "mse")["loss"], rel=1e-5
    )


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda outputs, labels: 1.0, r"the loss <lambda> must return \(loss, gradient\)"),
        (lambda outputs, labels: (1.0, outputs[:1]), r"a gradient of shape \(1, 3\) for outputs \(4, 3\)"),
        (L.CrossEntropy, "pass a name"),
    ],
)
def test_a_function_that_is_no_loss_is_an_error(loss, message):
    model = nc.Sequential([nc.Dense(3)], (4,), seed=0)
    with pytest.raises(ArgumentError, match=message):
        model.train_step(np.zeros((4, 4), np.float32), [0, 1, 2, 0], nc.SGD(0.1), loss)


@pytest.mark.parametrize("loss", [L.cross_entropy, L.mse, L.focal])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 5, 1], "labels run from 0 to 5; the model has 4 classes"),
        ([0, -1, 1], "labels run from -1 to 1; the model has 4 classes"),
        ([0, 1], "2 labels for 3 predictions"),
        ([0.5, 0.5], r"targets of shape \(2,\) for an output of shape \(3, 1, 1, 4\)|labels are float64"),
    ],
)
def test_invalid_targets_are_errors_with_their_numbers(loss, labels, message):
    with pytest.raises(ArgumentError, match=message):
        loss(np.zeros((3, 4), np.float32), np.array(labels))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: L.mse(x, x.T), r"targets of shape \(4, 3\) for an output of shape \(3, 1, 1, 4\)"),
        (lambda x, y: L.mse(x, x.reshape(-1)), r"targets of shape \(12,\) for an output of shape \(3, 1, 1, 4\)"),
        (
            lambda x, y: L.cross_entropy(x.reshape(1, 2, 3, 2), np.zeros((1, 3, 2), int)),
            r"labels of shape \(1, 3, 2\) for predictions of shape \(1, 2, 3\)",
        ),
        (lambda x, y: L.cross_entropy(x, y + 5, ignore_index=5), "labels run from 6 to 7; the model has 4 classes"),
        (lambda x, y: L.cross_entropy(x, x, ignore_index=0), "ignore_index is for integer labels"),
        (lambda x, y: L.cross_entropy(x, y, ignore_index=0.5), "ignore_index=0.5: pass an integer label"),
        (lambda x, y: L.cross_entropy(x, y, label_smoothing=1.5), "label_smoothing=1.5: .* at least 0 and at most 1"),
        (lambda x, y: L.cross_entropy(x, y, label_smoothing="a"), "label_smoothing='a': pass a number"),
        (lambda x, y: L.cross_entropy(x, y, class_weights=[1, 2]), "2 class_weights for 4 classes"),
        (lambda x, y: L.cross_entropy(x, y, class_weights=[1, -1, 1, 1]), r"class_weights=\(1.0, -1.0.*at least 0"),
        (lambda x, y: L.cross_entropy(x, y, class_weights=[0] * 4), "one of them above 0"),
        (lambda x, y: L.cross_entropy(x, y, class_weights=3), "class_weights=3: pass a sequence of numbers"),
        (lambda x, y: L.focal(x, y, gamma=-1), "gamma=-1: pass a number of at least 0"),
        (lambda x, y: L.focal(x, y, gamma=NAN), "gamma=nan: pass a number of at least 0"),
        (lambda x, y: L.focal(x, y, class_weights=[1]), "1 class_weights for 4 classes"),
        (lambda x, y: L.sigmoid_focal(x, x + 0.5), r"targets run from 0.5 to 0.5; each must be 0 or 1"),
        (lambda x, y: L.sigmoid_focal(x, y, alpha=2), "alpha=2: .* at least 0 and at most 1"),
        (lambda x, y: L.binary_cross_entropy(x, x - 1), "targets run from -1 to -1; they must be from 0 to 1"),
        (lambda x, y: L.binary_cross_entropy(x, y, pos_weight=-1), "pos_weight=-1: pass a number of at least 0"),
        (lambda x, y: L.binary_cross_entropy(x, y, pos_weight=[1, 2]), "2 pos_weight for 4 classes"),
        (lambda x, y: L.huber(x, x, delta=0), "delta=0: pass a number above 0"),
        (lambda x, y: L.dice(x, y, smooth=0), "smooth=0: pass a number above 0"),
        (lambda x, y: L.dice(x, y, activation="sigmoids"), "unknown activation 'sigmoids'; did you mean 'sigmoid'"),
    ],
)
def test_invalid_options_are_errors_with_a_remedy(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(np.zeros((3, 4), np.float32), np.array([0, 1, 2]))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 4)])
def test_outputs_of_other_shapes_are_errors(shape):
    with pytest.raises(ArgumentError, match="outputs have shape"):
        L.cross_entropy(np.zeros(shape, np.float32), np.zeros(3, int))


def test_weights_are_taken_by_the_number_or_the_name_of_their_class():
    x, y = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32), np.array([0, 0, 0, 1, 1, 2, 2, 0])
    in_order = L.cross_entropy(x, y, class_weights=[1, 2, 5])
    by_number = L.cross_entropy(x, y, class_weights={2: 5, np.int64(0): 1.0, 1: np.float32(2)})
    assert in_order[0] == by_number[0]
    assert (in_order[1] == by_number[1]).all()
    names = ["cat", "dog", "eel"]
    for make, option in (
        (L.CrossEntropy, "class_weights"),
        (L.Focal, "class_weights"),
        (L.BinaryCrossEntropy, "pos_weight"),
    ):
        by_name = make(**{option: {"eel": 5, "cat": 1, "dog": 2}}).for_classes(names)
        assert by_name == make(**{option: [1, 2, 5]})
        assert by_name.for_classes(names) is by_name


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({1.0, 2.0, 5.0}, "pass a sequence of numbers, or a mapping"),
        ("125", "pass a sequence of numbers, or a mapping"),
        ({}, "pass a sequence of numbers, or a mapping"),
        ({1: 1, 2: 2, 3: 3}, "has nothing for 0; pass each number from 0 once"),
        ({0: 1, "cat": 1}, "unknown key of class_weights, 'cat'"),
        ({0.5: 1}, "a key of class_weights=0.5: pass a whole number"),
        ({"cat": 1, "dog": -5}, "pass numbers of at least 0"),
        ({"cat": 1, "dog": 5}, "'cat', 'dog': the names of the classes are not known here"),
    ],
)
def test_weights_that_have_no_order_or_no_class_are_errors(weights, message):
    with pytest.raises(ArgumentError, match=message):
        L.cross_entropy(np.zeros((3, 3), np.float32), np.array([0, 1, 2]), class_weights=weights)


def test_an_unknown_class_among_weights_is_an_error_with_the_nearest_name():
    with pytest.raises(ArgumentError, match="unknown key of class_weights, 'dgo'; did you mean 'dog'"):
        L.CrossEntropy(class_weights={"cat": 1, "dgo": 5}).for_classes(["cat", "dog"])


def test_fit_and_evaluate_take_weights_by_the_names_of_the_data_set(rng):
    x, y = rng.integers(0, 255, (12, 4, 4, 1), np.uint8), np.arange(12) % 3
    data = nc.data.Dataset.from_arrays(x, y, {2: "eel", 0: "cat", 1: "dog"})
    found = []
    for weights in ({"dog": 2, "eel": 5, "cat": 1}, [1, 2, 5]):
        model = nc.Sequential([nc.Flatten(), nc.Dense(3)], (4, 4, 1), seed=0)
        loss = L.CrossEntropy(class_weights=weights)
        found.append((model.fit(data, loss=loss, epochs=1).epochs[0].loss, model.evaluate(data, loss)["loss"]))
    assert found[0] == found[1]


# -- objectives of several outputs ------------------------------------------------------------------------------------


def test_an_objective_has_a_loss_and_a_weight_for_each_output():
    assert make_objective("mse", None, 1) == make_objective(["mse"], [1], 1)
    found = make_objective("mse", None, 2, 1, 0.3)
    assert found.losses == (L.MeanSquaredError(),) * 3
    assert found.weights == (1.0, 1.0, 0.3)
    found = make_objective(["l1", "mse"], [2, 3], 2, 1, 0.3)
    assert found.losses == (L.MeanAbsoluteError(), L.MeanSquaredError(), L.MeanAbsoluteError())
    assert found.weights == (2.0, 3.0, 0.3)
    assert make_objective("mse", [1, 0, 5], 1, 2, 0.3).weights == (1.0, 0.0, 5.0)
    found = make_objective({"b": "l1", "a": "mse"}, {"b": 2, "a": 3}, 2, names=["a", "b"])
    assert found == make_objective(["mse", "l1"], [3, 2], 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_objective(["mse"] * 3, None, 2), "3 losses for a model with 2 outputs"),
        (lambda: make_objective("mse", [1], 2), "1 loss_weights for a model with 2 outputs"),
        (
            lambda: make_objective("mse", [1, 1], 1, 2),
            "2 loss_weights for a model with 1, or 3 with the auxiliary ones,",
        ),
        (lambda: make_objective("mse", [1, -1], 2), r"loss_weights=\(1.0, -1.0\): pass numbers of at least 0"),
        (lambda: make_objective(["mse", "hinge"], None, 2), "unknown loss 'hinge'"),
        (lambda: make_objective("mse", {"c": 1}, 2, names=["a", "b"]), "unknown key of loss_weights, 'c'"),
        (lambda: make_objective("mse", {1.0, 2.0}, 2), "loss_weights=.*pass a sequence of numbers"),
    ],
)
def test_invalid_objectives_are_errors(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
