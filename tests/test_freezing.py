"""Freezing by pattern: what is computed, what changes, what runs as in inference; and replacing the head."""

import copy
import pickle

import numpy as np
import pytest
from engine import assert_close, normals, randomize
from test_optimizers import every_optimizer
from test_training import bright_quadrants, small

import numbacnn as nc
from numbacnn.engine.executor import Executor
from numbacnn.engine.plan import make_plan
from numbacnn.errors import ArgumentError


def branched(seed=0):
    """A residual model with batch normalization, dropout and a head; layers have dotted names."""
    x = nc.Input((6, 6, 3))
    h = nc.ReLU(name="features.relu")(nc.BatchNorm(name="features.norm")(nc.Conv2D(8, 3, name="features.conv")(x)))
    h = nc.Dropout(0.5, name="features.dropout")(h)
    h = nc.Add(name="add")([h, nc.Conv2D(8, 3, padding="same", name="middle.conv")(h)])
    return nc.Model(x, nc.Dense(4, name="head")(nc.Flatten(name="flat")(h)), seed=seed)


def arrays(model):
    return {name: np.array(array) for name, array in {**model.parameters, **model.state}.items()}


def gradients(model, x, dy):
    y = model.forward(x, training=True)
    dx = model.backward(dy)
    return y, dx, {name: np.array(array) for name, array in model.gradients.items()}


def backward_names(model):
    plan = make_plan(model.graph, model.device.sizes, 2, training=True, frozen=model.store.frozen)
    return {step.node.name for step in plan.backward}


def test_frozen_names_are_listed_in_order_and_can_be_unfrozen():
    model = branched()
    assert model.frozen == ()
    model.freeze("features.*")
    model.freeze("*.bias")
    expected = (
        "features.conv.weight features.conv.bias features.norm.weight features.norm.bias middle.conv.bias head.bias"
    )
    assert model.frozen == tuple(expected.split())
    model.unfreeze("head.*")
    assert model.frozen == tuple(expected.split()[:-1])
    model.unfreeze()
    assert model.frozen == ()


def test_a_pattern_that_matches_nothing_is_rejected_with_the_nearest_names():
    model = branched()
    with pytest.raises(
        ArgumentError, match=r"freeze: the pattern 'feature\.conv' matches no parameter; .*features\.conv"
    ):
        model.freeze("feature.conv")
    with pytest.raises(ArgumentError, match=r"unfreeze: the pattern 'x' matches no parameter"):
        model.unfreeze("x")
    assert model.frozen == ()


def test_frozen_gradients_are_zero_and_others_keep_their_bits(rng):
    (x,), (dy,) = normals(rng, [(6, 6, 3)], 5), normals(rng, [(4,)], 5)
    model = branched()
    model.freeze("features.dropout")  # so that both runs see the same features
    randomize(model, rng)
    twin = copy.deepcopy(model)
    gradients(twin, x, dy)  # leaves gradients, which freezing clears
    for frozen in (model, twin):
        frozen.freeze("middle.*")
        frozen.freeze("head.bias")
    free = copy.deepcopy(model)
    free.unfreeze("middle.*")
    free.unfreeze("head.*")
    _, dx, expected = gradients(free, x, dy)
    for found in (gradients(model, x, dy), gradients(twin, x, dy)):
        np.testing.assert_array_equal(found[1], dx)
        for name, gradient in found[2].items():
            np.testing.assert_array_equal(gradient, 0 if name in model.frozen else expected[name], name)
    assert np.abs(expected["middle.conv.weight"]).max() > 0


def test_work_that_only_frozen_parameters_need_is_skipped():
    model = branched()
    assert {"features.conv", "middle.conv", "head"} <= backward_names(model)
    model.freeze("features.*")
    assert backward_names(model) & {"features.conv", "features.norm", "features.relu", "features.dropout"} == set()
    assert {"middle.conv", "head"} <= backward_names(model)
    model.freeze("middle.*")
    assert backward_names(model) == {"head"}
    model.unfreeze("features.*")
    assert {"features.conv", "middle.conv", "head"} <= backward_names(model)  # the gradient passes through middle.conv


def launches(model):
    """Return the number of kernels that a backward pass on three images launches."""
    plan = make_plan(model.graph, model.device.sizes, 3, training=True, frozen=model.store.frozen)
    binding = Executor(plan, model.store, model.device).bind(3)
    return sum(len(step.launches) for step in binding.backward)


def test_a_frozen_layer_only_propagates_its_gradient():
    """Compare the launches with everything trained, without the head's weights, and with these alone."""
    model, counts = small(), []
    for pattern in (None, "dense_1.*", "conv2d_1.*"):
        model.unfreeze()
        if pattern:
            model.freeze(pattern)
        counts.append(launches(model))
    assert counts[0] > counts[1] > counts[2] > 0


@every_optimizer
def test_optimizers_do_not_change_frozen_parameters(make, rng):
    model, optimizer = branched(), make()
    (x,) = normals(rng, [(6, 6, 3)], 4)
    model.train_step(x, [0, 1, 2, 3], optimizer)  # gives every parameter moments
    model.freeze("features.*")
    before = arrays(model)
    for _ in range(3):
        model.train_step(x, [0, 1, 2, 3], optimizer)
    for name, array in arrays(model).items():
        assert np.array_equal(array, before[name]) == name.startswith("features"), name
    model.unfreeze("features.conv.*")
    model.train_step(x, [0, 1, 2, 3], optimizer)
    assert not np.array_equal(model.parameters["features.conv.weight"], before["features.conv.weight"])


def test_a_frozen_layer_runs_as_in_inference(rng):
    (x,) = normals(rng, [(6, 6, 3)], 4)
    model = branched()
    randomize(model, rng)
    model.set_parameters({"features.norm.running_mean": rng.random(8), "features.norm.running_var": 1 + rng.random(8)})
    inference, state = model.forward(x), {name: np.array(array) for name, array in model.state.items()}
    assert np.abs(model.forward(x, training=True) - inference).max() > 0.01
    model.set_parameters(state)
    model.freeze("features.*")
    assert_close(model.forward(x, training=True), inference, "frozen")  # inference folds the batch normalization
    for name, array in state.items():
        np.testing.assert_array_equal(model.state[name], array)
    model.unfreeze("features.dropout")  # everything else is still frozen
    assert np.abs(model.forward(x, training=True) - inference).max() > 0.01


def test_a_frozen_batch_norm_accepts_one_value_per_channel():
    model = nc.Sequential([nc.BatchNorm(), nc.Dense(2)], (3,))
    with pytest.raises(ArgumentError, match="variance"):
        model.train_step(np.ones((1, 3), np.float32), [1], nc.SGD(0.1))
    model.freeze("batch_norm_1.*")
    assert np.isfinite(model.train_step(np.ones((1, 3), np.float32), [1], nc.SGD(0.1)))


def test_input_gradients_pass_through_frozen_layers(rng):
    (x,), (dy,) = normals(rng, [(8, 8, 1)], 3), normals(rng, [(4,)], 3)
    model = small()
    expected = gradients(model, x, dy)[1]
    model.freeze("*")
    found = gradients(model, x, dy)
    np.testing.assert_array_equal(found[1], expected)
    assert all((gradient == 0).all() for gradient in found[2].values())


def test_training_with_everything_frozen_is_rejected():
    model = small()
    model.freeze("*")
    with pytest.raises(ArgumentError, match="every parameter is frozen, there is nothing to train; unfreeze some"):
        model.fit(bright_quadrants(8), epochs=1)


def test_frozen_weights_are_not_penalized(rng):
    layers = [nc.Flatten(), nc.Dense(5, l2=0.1, name="first"), nc.Dense(4, l1=0.1, name="second")]
    model, x = nc.Sequential(layers, (3, 3, 1)), rng.standard_normal((2, 3, 3, 1)).astype(np.float32)
    whole = model.train_step(x, [0, 1], nc.SGD(0.0))
    model.freeze("first.*")
    part = model.train_step(x, [0, 1], nc.SGD(0.0))
    assert whole - part == pytest.approx(0.1 * (np.float64(model.parameters["first.weight"]) ** 2).sum(), rel=1e-5)
    assert not model.gradients["first.weight"].any()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item))], ids=["deep", "pickle"]
)
def test_copies_keep_frozen_parameters_and_files_do_not(copied, tmp_path):
    model = branched()
    model.freeze("features.*")
    assert copied(model).frozen == model.frozen
    model.save(tmp_path / "m.safetensors")
    assert nc.load(tmp_path / "m.safetensors").frozen == ()


# -- replacing the head -----------------------------------------------------------------------------------------------


def test_a_new_head_is_drawn_and_everything_else_is_kept(rng):
    model = branched(seed=3)
    randomize(model, rng)
    model.freeze("features.*")
    model.normalization, model.classes = nc.data.normalization.Normalization((0.1,) * 3, (0.5,) * 3), tuple("abcd")
    before, again = arrays(model), model.replace_head(7, seed=5)
    assert again.output_shape == (7,)
    assert again.parameters["head.weight"].shape == (128, 7)
    assert again.frozen == model.frozen
    assert (again.normalization, again.classes) == (model.normalization, None)
    for name, array in arrays(again).items():
        if not name.startswith("head"):
            np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(
        again.parameters["head.weight"], branched(seed=5).replace_head(7, seed=5).parameters["head.weight"]
    )
    for name, array in arrays(model).items():
        np.testing.assert_array_equal(array, before[name])
    same = model.replace_head(4, seed=5)  # as many classes as before: drawn again all the same
    assert not np.array_equal(same.parameters["head.weight"], before["head.weight"])


def test_a_head_is_the_last_layer_with_weights_before_each_output():
    x = nc.Input((8, 8, 3))
    h = nc.Conv2D(4, 3, name="stem")(x)
    y = nc.Softmax()(nc.GlobalAvgPool2D()(nc.Conv2D(5, 1, name="main")(h)))
    side = nc.Dense(5, name="side")(nc.Flatten()(h))
    model = nc.Model(x, y, auxiliary=[side]).replace_head(9)
    assert {name: array.shape[-1] for name, array in model.parameters.items() if name.endswith("weight")} == {
        "stem.weight": 4, "main.weight": 9, "side.weight": 9,
    }  # fmt: skip
    assert isinstance(small().replace_head(3), nc.Sequential)


@pytest.mark.parametrize(
    ("layers", "classes", "message"),
    [
        ([nc.Dense(3), nc.BatchNorm()], 4, 'the last layer with weights, "batch_norm_1", is not a Dense or Conv2D'),
        ([nc.ReLU()], 4, "depends on no weights: it has no head to replace"),
        ([nc.Dense(3)], 0, "classes=0: pass a whole number"),
    ],
)
def test_heads_that_cannot_be_replaced_are_rejected(layers, classes, message):
    with pytest.raises(ArgumentError, match=message):
        nc.Sequential(layers, (5,)).replace_head(classes)
