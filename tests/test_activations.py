"""Inspecting models: the outputs of layers, and the gradients of class scores with respect to them."""

import numpy as np
import oracles
import pytest
from engine import assert_close, generator_of, randomize
from graphs import auxiliary_heads, models, normalized, squeezed
from hypothesis import given, settings

import numbacnn as nc
from numbacnn.data.normalization import Normalization
from numbacnn.engine.graph_format import to_dict
from numbacnn.inspection.activations import score_value

ONE_INPUT = models().filter(lambda model: len(model.graph.input_shapes) == 1)


def one_input(model):
    """Give a model with one input random parameters; return it with raw images."""
    model.several_inputs = False
    draw = generator_of(repr(to_dict(model.graph)))
    randomize(model, draw)
    return model, draw.standard_normal((3, *model.input_shape)).astype(np.float32)


def values(model, x, replaced=None):
    """Compute every value in float64, by name, as in inference; ``replaced`` are given."""
    arrays, known = model.store.arrays(), [np.asarray(x, np.float64)]
    for node in model.graph.nodes:
        y = (replaced or {}).get(node.name)
        if y is None:
            y = oracles.forward(node.layer, [known[i] for i in node.inputs], oracles.custom_arrays(node, arrays))
        known.append(y)
    return dict(zip(model.graph.names, known, strict=True))


def before(graph, score):
    """Return the names of the values that one depends on."""
    found, names = {score}, graph.names
    for node in reversed(graph.nodes):
        if node.name in found:
            found.update(names[i] for i in node.inputs)
    return found - {score}


@pytest.mark.parametrize("make", [auxiliary_heads, normalized, squeezed])
def test_activations_of_all_layers(make):
    model, x = one_input(make())
    found, expected = model.activations(x), values(model, x)
    assert list(found) == [node.name for node in model.graph.nodes]
    for name, array in found.items():
        assert_close(array, expected[name], name)


@settings(max_examples=40)
@given(ONE_INPUT)
def test_activations_of_random_models(model):
    model, x = one_input(model)
    expected = values(model, x)
    names = [node.name for node in model.graph.nodes][::2][::-1]
    found = model.activations(x, names, batch_size=2)
    assert list(found) == names
    for name, array in found.items():
        assert_close(array, expected[name], name)


@settings(max_examples=40)
@given(ONE_INPUT)
def test_class_gradients_of_random_models(model):
    """They match a central difference of the float64 oracle in a random direction."""
    model, x = one_input(model)
    score = model.graph.names[score_value(model.graph)]
    expected = values(model, x)
    classes = np.arange(3) % expected[score].shape[-1]
    leading = before(model.graph, score)
    for node in model.graph.nodes:
        if node.name not in leading:
            with pytest.raises(nc.ArgumentError, match="does not lead to the scores"):
                model.class_gradients(x, node.name, classes)
            continue
        y, dy = model.class_gradients(x, node.name, classes)
        assert_close(y, expected[node.name], node.name)
        direction = generator_of(node.name).standard_normal(y.shape)

        def moved(step, name=node.name, direction=direction):
            out = values(model, x, {name: expected[name] + step * direction})[score]
            return out[np.arange(3), ..., classes].sum()

        slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
        assert abs(np.sum(dy * direction) - slope) <= 1e-5 * np.linalg.norm(dy) * np.linalg.norm(direction) + 1e-6


def digits_model():
    model = nc.Sequential(
        [nc.Conv2D(4, 5, stride=2, name="first"), nc.ReLU(), nc.MaxPool2D(2), nc.BatchNorm(), nc.Dropout(0.5),
         nc.Flatten(), nc.Dense(10), nc.Softmax()], (28, 28, 1), seed=1)  # fmt: skip
    randomize(model, generator_of("digits"))
    _, test = nc.data.load("digits")
    model.normalization = Normalization((0.2,), (0.5,))
    return model, test.images[:5]


def test_activations_equal_the_functions_applied_in_turn():
    model, images = digits_model()
    found, p, f = model.activations(images), model.parameters | dict(model.state), nc.functional
    x = ((images / 255 - 0.2) / 0.5).astype(np.float32)
    steps = {
        "first": lambda x: f.conv2d(x, p["first.weight"], p["first.bias"], stride=2),
        "relu_1": f.relu,
        "max_pool2d_1": lambda x: f.max_pool2d(x, 2),
        "batch_norm_1": lambda x: f.batch_norm(
            x, *(p[f"batch_norm_1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        ),
        "dropout_1": lambda x: x,
        "flatten_1": lambda x: x.reshape(len(x), -1),
        "dense_1": lambda x: f.dense(x, p["dense_1.weight"], p["dense_1.bias"]),
        "softmax_1": f.softmax,
    }
    assert list(found) == list(steps)
    for name, step in steps.items():
        x = step(x)
        assert_close(found[name], x.astype(np.float64), name)
    np.testing.assert_array_equal(found["softmax_1"], model.predict(images))


def test_the_class_score_is_the_logit():
    model, images = digits_model()
    _, gradient = model.class_gradients(images, "flatten_1", [3, 1, 4, 1, 5])
    np.testing.assert_array_equal(gradient, model.parameters["dense_1.weight"].T[[3, 1, 4, 1, 5]])


def test_inspection_changes_nothing():
    model, images = digits_model()
    x = images.astype(np.float32) / 255
    twin, _ = digits_model()
    for seen in (model, twin):
        y = seen.forward(x, training=True)
        if seen is model:
            model.activations(images)
            model.class_gradients(images, "first", [0] * 5)
            nc.plots.layer_gradient_norms(model, images, [0] * 5)
        seen.backward(np.ones_like(y))
        seen.train_step(x, np.arange(5), nc.SGD(0.1))
    for ours, theirs in zip(model.store.arrays().values(), twin.store.arrays().values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name, gradient in model.gradients.items():
        np.testing.assert_array_equal(gradient, twin.gradients[name])


@pytest.mark.parametrize(
    ("fragment", "call"),
    [
        ("unknown layer 'frist'; did you mean 'first'?", lambda m, x: m.activations(x, ["frist"])),
        ("unknown layer 'relu'; did you mean 'relu_1'?", lambda m, x: m.class_gradients(x, "relu", [0] * 5)),
        ("does not lead to the scores", lambda m, x: m.class_gradients(x, "softmax_1", [0] * 5)),
        ("does not lead to the scores", lambda m, x: m.class_gradients(x, "dense_1", [0] * 5)),
        ("class 10 for 5 images and 10 classes", lambda m, x: m.class_gradients(x, "first", [0, 1, 10, 2, 3])),
        ("classes of shape (2,) for 5 images", lambda m, x: m.class_gradients(x, "first", [0, 1])),
        ("there are no images", lambda m, x: m.activations(x[:0])),
        ("for a model whose input is (28, 28, 1)", lambda m, x: m.activations(x[:, 1:])),
    ],
)
def test_invalid_input_is_rejected(fragment, call):
    with pytest.raises(nc.ArgumentError) as caught:
        call(*digits_model())
    assert fragment in str(caught.value)
