"""Losses: values and gradients on drawn shapes, and what they refuse."""

import numpy as np
import pytest
import reference as ref
from engine import assert_close, generator_of

import numbacnn as nc
from numbacnn.errors import ArgumentError
from numbacnn.losses import LOSSES, get_loss

TARGETS = ("labels", "probabilities", "numbers")


def drawn(number):
    """(shape, target kind) of loss case ``number``: features and images, of any number."""
    draw = generator_of(f"loss {number}")
    sizes = [int(n) for n in draw.integers(1, (9, 6, 6, 40))]
    return (sizes if number % 3 == 0 else [sizes[0], sizes[3]]), TARGETS[number % len(TARGETS)]


CASES = [drawn(number) for number in range(60)] + [
    ([1, 1], "labels"),
    ([64, 10], "labels"),
    ([300, 3], "probabilities"),
]


def arrays(shape, kind):
    """Outputs, what is passed as target, and what that means: an array of the outputs' shape."""
    draw = generator_of(f"{shape} {kind}")
    outputs = (3 * draw.standard_normal(shape)).astype(np.float32)
    if kind == "labels":
        labels = draw.integers(0, shape[-1], shape[:-1])
        return outputs, labels, ref.one_hot(labels, shape[-1])
    numbers = draw.standard_normal(shape)
    target = (ref.softmax(numbers) if kind == "probabilities" else numbers).astype(np.float32)
    return outputs, target, target.astype(np.float64)


def losses_of(shape, kind):
    """Numbers are no probabilities; integers of the size of the outputs are no labels to mse."""
    fitting = {"cross_entropy": kind != "numbers", "mse": kind != "labels" or shape[-1] > 1}
    return [name for name, fits in fitting.items() if fits]


CASES = [(name, shape, kind) for shape, kind in CASES for name in losses_of(shape, kind)]
every_case = pytest.mark.parametrize(("name", "shape", "kind"), CASES, ids=lambda value: str(value))


@every_case
def test_oracle_gradients_match_a_central_difference(name, shape, kind):
    outputs, _, meaning = arrays(shape, kind)
    outputs, oracle = outputs.astype(np.float64), getattr(ref, name)
    direction = generator_of(f"direction {shape}").standard_normal(shape)
    step = 1e-5
    slope = (oracle(outputs + step * direction, meaning)[0] - oracle(outputs - step * direction, meaning)[0]) / (
        2 * step
    )
    parts = oracle(outputs, meaning)[1] * direction
    assert abs(slope - parts.sum()) <= 1e-6 * np.abs(parts).sum() + 1e-10, f"{parts.sum()!r}, by difference {slope!r}"


@every_case
def test_losses_match_the_oracle(name, shape, kind):
    outputs, target, meaning = arrays(shape, kind)
    loss, dy = getattr(nc.losses, name)(outputs, target)
    expected, gradient = getattr(ref, name)(outputs.astype(np.float64), meaning)
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-7)
    if name == "cross_entropy" and shape[-1] == 1:  # one class is certain: no gradient but rounding
        assert np.abs(dy).max() < 1e-6
    else:
        assert_close(dy, gradient, f"{name} of {kind}, {shape}")


def test_labels_may_be_of_any_integer_type_and_nested_lists():
    outputs = np.eye(3, dtype=np.float32)
    expected = nc.losses.cross_entropy(outputs, np.array([0, 2, 1]))[0]
    for labels in ([0, 2, 1], np.array([0, 2, 1], np.uint8), np.array([[0], [2], [1]], np.int16)):
        assert nc.losses.cross_entropy(outputs, labels)[0] == expected


def test_mse_takes_integers_of_its_own_shape_as_numbers():
    assert nc.losses.mse(np.zeros((2, 3), np.float32), np.full((2, 3), 2))[0] == 4.0


def test_probability_zero_of_an_impossible_class_costs_nothing():
    loss, _ = nc.losses.cross_entropy(np.array([[0, -np.inf]], np.float32), np.array([[1.0, 0.0]]))
    assert loss == 0.0


@pytest.mark.parametrize("loss", [nc.losses.cross_entropy, nc.losses.mse])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 5, 1], "labels run from 0 to 5; the model has 4 classes"),
        ([0, -1, 1], "labels run from -1 to 1; the model has 4 classes"),
        ([0, 1], "2 labels for 3 predictions"),
        ([0.5, 0.5], r"targets of shape \(2,\) for an output of shape \(3, 1, 1, 4\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused_with_their_numbers(loss, labels, message):
    with pytest.raises(ArgumentError, match=message):
        loss(np.zeros((3, 4), np.float32), np.array(labels))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 4)])
def test_outputs_of_other_shapes_are_refused(shape):
    with pytest.raises(ArgumentError, match="outputs have shape"):
        nc.losses.cross_entropy(np.zeros(shape, np.float32), np.zeros(3, int))


def test_losses_go_by_name():
    assert get_loss("mse") is LOSSES["mse"]
    assert get_loss(LOSSES["mse"]) is LOSSES["mse"]
    with pytest.raises(ArgumentError, match="did you mean 'cross_entropy'"):
        get_loss("crossentropy")
