"""Models with several outputs, auxiliary heads that only training runs, and penalties on weights."""

import copy
import json
import pickle

import numpy as np
import pytest
from engine import Result, assert_close, normals, oracle, output_shapes, randomize
from graphs import several_inputs_and_outputs

import numbacnn as nc
from numbacnn.engine.device import get_device
from numbacnn.engine.graph_format import from_dict, to_dict
from numbacnn.engine.network import Network
from numbacnn.engine.plan import make_plan
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.training import trainable
from numbacnn.training.objective import make_objective

L = nc.losses


def with_auxiliary(auxiliary=True, l2=0.0, **options):
    """A model of two blocks, with an auxiliary head after each; the first head has layers of its own."""
    x = nc.Input((7, 8, 2))
    h = nc.ReLU(name="first")(nc.Conv2D(4, 3, padding="same", l2=l2, name="conv")(x))
    side = nc.Dense(3, name="side")(nc.Flatten(name="flat")(nc.Conv2D(2, 3, name="reduce")(h)))
    h = nc.ReLU(name="second")(nc.Conv2D(5, 3, name="deep")(h))
    y = nc.Dense(3, name="head")(nc.GlobalAvgPool2D(name="pool")(h))
    late = nc.GlobalMaxPool2D(name="peak")(nc.Conv2D(3, 1, name="late")(h))
    return nc.Model(x, y, auxiliary=[side, late] if auxiliary else (), **options)


def batch(rng, n=4):
    return rng.standard_normal((n, 7, 8, 2)).astype(np.float32), rng.integers(0, 3, n)


def shared_parameters(model, other):
    other.set_parameters({name: array for name, array in model.parameters.items() if name in other.parameters})
    return other


# -- auxiliary heads --------------------------------------------------------------------------------------------------


def test_auxiliary_outputs_exist_only_in_training(rng):
    model, (x, _) = with_auxiliary(), batch(rng)
    y = model.forward(x)
    assert y.shape == (4, 3)
    ys = model.forward(x, training=True)
    assert [y.shape for y in ys] == [(4, 3)] * 3
    np.testing.assert_array_equal(ys[0], y)
    with pytest.raises(ArgumentError, match="1 gradients for a model of 3"):
        model.backward([np.ones((4, 3))])
    assert model.backward([np.ones((4, 3))] * 3).shape == x.shape


def test_inference_plans_omit_nodes_that_only_auxiliary_outputs_need(rng):
    model, bare, sizes = with_auxiliary(), with_auxiliary(auxiliary=False), get_device("cpu").sizes
    only_training = {"reduce", "flat", "side", "late", "peak"}
    for training in (False, True):
        plan = make_plan(model.graph, sizes, 4, training=training)
        ran = {step.node.name for step in plan.forward}
        assert bool(only_training & ran) == training
    inference = make_plan(model.graph, sizes, 4, training=False)
    assert inference.bytes == make_plan(bare.graph, sizes, 4, training=False).bytes
    assert [step.fused for step in inference.forward][:2] == ["relu", "relu"]
    x, _ = batch(rng)
    np.testing.assert_array_equal(shared_parameters(model, bare).forward(x), model.forward(x))


def test_an_auxiliary_output_may_be_an_intermediate_value(rng):
    x = nc.Input((5,))
    h = nc.Dense(4, name="on_the_way")(x)
    model = nc.Model(x, nc.Dense(3)(nc.ReLU()(h)), auxiliary=[h])
    assert model.graph.inference.names == model.graph.names
    y, way = model.forward(rng.standard_normal((2, 5)), training=True)
    assert (y.shape, way.shape) == ((2, 3), (2, 4))


def test_gradients_of_auxiliary_heads_match_the_oracle(rng):
    """The oracle runs the same graph with the heads as ordinary outputs."""
    model = with_auxiliary()
    randomize(model, rng)
    form = to_dict(model.graph)
    form["outputs"] += form.pop("auxiliary")
    (x,), dys = normals(rng, [(7, 8, 2)], 3), normals(rng, [(3,)] * 3, 3)
    found = Result(model.forward(x, training=True), [model.backward(dys)], dict(model.gradients))
    twin = Network(from_dict(form), model.device, several_inputs=False, several_outputs=True)
    expected = oracle(shared_parameters(model, twin), [x], dys)
    for name, array in found.named().items():
        assert_close(np.array(array), expected.named()[name], name)


def test_auxiliary_outputs_get_the_first_loss_the_labels_and_the_models_weight(rng):
    x, labels = batch(rng)
    model = with_auxiliary(auxiliary_weight=0.25)
    parts = [L.cross_entropy(y, labels)[0] for y in model.forward(x, training=True)]
    expected = parts[0] + 0.25 * parts[1] + 0.25 * parts[2]
    frozen = nc.SGD(0.0)
    assert model.train_step(x, labels, frozen) == pytest.approx(expected, rel=1e-6)
    assert model.train_step(x, [labels], frozen, loss=["cross_entropy"]) == pytest.approx(expected, rel=1e-6)
    loss = model.train_step(x, [labels, labels, 2 - labels], frozen, loss_weights=[1, 0, 2])
    other = L.cross_entropy(model.forward(x, training=True)[2], 2 - labels)[0]
    assert loss == pytest.approx(parts[0] + 2 * other, rel=1e-6)


def test_auxiliary_heads_of_weight_zero_do_not_change_other_bits(rng):
    x, labels = batch(rng)
    model = with_auxiliary(auxiliary_weight=0)
    bare = shared_parameters(model, with_auxiliary(auxiliary=False))
    for one in (model, bare):
        one.train_step(x, labels, nc.SGD(0.1))
    for name, array in bare.parameters.items():
        np.testing.assert_allclose(model.parameters[name], array, rtol=1e-6, atol=1e-7, err_msg=name)


def test_fit_trains_auxiliary_heads_and_predict_does_without(rng):
    images, labels = rng.integers(0, 255, (12, 7, 8, 2), np.uint8), np.arange(12) % 3
    model = with_auxiliary()
    before = model.parameters["side.weight"].copy()
    history = model.fit((images, labels), validation=(images, labels), epochs=2, batch_size=5, optimizer=nc.SGD(0.1))
    assert np.abs(model.parameters["side.weight"] - before).max() > 0
    assert history.epochs[-1].validation_loss == pytest.approx(model.evaluate((images, labels))["loss"])
    assert history.epochs[-1].loss > history.epochs[-1].validation_loss  # the training loss includes those of the heads
    assert model.predict(images).shape == (12, 3)


COPIES = {
    "file": lambda model, folder: (model.save(folder / "m.safetensors"), nc.load(folder / "m.safetensors"))[1],
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_keep_auxiliary_heads_their_weight_and_penalties(copied, tmp_path, rng):
    model, (x, labels) = with_auxiliary(l2=0.5, auxiliary_weight=0.7), batch(rng)
    again = copied(model, tmp_path)
    assert to_dict(again.graph) == to_dict(model.graph)
    assert again.auxiliary_weight == 0.7
    assert again.graph.penalties() == {"conv.weight": (0.0, 0.5)}
    expected = model.train_step(x, labels, nc.SGD(0.1))
    assert again.train_step(x, labels, nc.SGD(0.1)) == expected


def test_forms_without_auxiliary_outputs_are_read_and_damaged_ones_rejected():
    form = json.loads(json.dumps(to_dict(with_auxiliary(auxiliary=False).graph)))
    assert form.pop("auxiliary") == []
    assert from_dict(form).auxiliary == ()
    with pytest.raises(ModelFileError, match="cannot be rebuilt: 'nobody'"):
        from_dict(form | {"auxiliary": ["nobody"]})
    with pytest.raises(ModelFileError, match="is listed twice among the outputs"):
        from_dict(form | {"auxiliary": ["head"]})


def test_the_summary_marks_layers_that_run_only_in_training():
    summary, bare = (with_auxiliary(auxiliary).summary(show=False) for auxiliary in (True, False))
    marked = [row.name for row in summary.rows if row.training_only]
    assert marked == ["reduce", "flat", "side", "late", "peak"]
    assert summary.flops == bare.flops
    assert summary.memory["inference"] == bare.memory["inference"]
    assert summary.parameters == sum(array.size for array in with_auxiliary().parameters.values())
    assert "side *" in str(summary)
    assert str(summary).endswith("* in training only")
    assert "*" not in str(bare)


def test_the_summary_of_layers_that_repeat():
    x = h = nc.Input((6, 6, 4))
    for name in ("first", "second", "third"):
        h = nc.ReLU()(nc.DepthwiseConv2D(3, padding="same", name=name)(h))
    flat = nc.Flatten()(h)
    summary = nc.Model(x, nc.Dense(1000)(flat), auxiliary=[nc.Dense(3, name="side")(flat)]).summary(show=False)
    by_name = {row.name: row for row in summary.rows}
    assert [by_name[name].parameters for name in ("first", "second", "third")] == [40, 40, 40]
    algorithms = {key: by_name["first"].algorithms[key] for key in ("forward", "weight_gradient")}  # no input gradient
    assert by_name["first"].algorithms == algorithms
    assert by_name["second"].algorithms == by_name["third"].algorithms
    assert by_name["second"].algorithms.keys() == {"forward", "weight_gradient", "input_gradient"}
    assert by_name["relu_1"].algorithms == {}
    lines = [line.split("  ")[0] for line in str(summary).splitlines()]
    assert lines == [
        "input 6×6×4", "layer", lines[2], "first", "relu_1", "second", "relu_2", "third", "relu_3", "flatten_1",
        "dense_1", "side *", *lines[12:],
    ]  # fmt: skip
    assert str(summary).splitlines()[10] == "dense_1    dense             1000       145,000  0.288"


def test_steps_with_the_same_arguments_share_an_objective_until_something_changes(monkeypatch, rng):
    made = []
    monkeypatch.setattr(trainable, "make_objective", lambda *a, **o: made.append(a) or make_objective(*a, **o))
    model, (x, labels), optimizer = with_auxiliary(auxiliary_weight=0.25), batch(rng), nc.SGD(0.0)
    first, again = (model.train_step(x, labels, optimizer) for _ in range(2))
    assert len(made) == 1
    assert again == first
    model.auxiliary_weight = 0.75
    assert model.train_step(x, labels, optimizer) > first
    focal = model.train_step(x, labels, optimizer, loss=nc.losses.Focal())
    assert focal < model.train_step(x, labels, optimizer)
    assert len(made) == 4


@pytest.mark.parametrize("weight", [-0.1, np.inf, np.nan, "much"])
def test_invalid_auxiliary_weights_are_rejected(weight):
    with pytest.raises(ArgumentError, match=r"auxiliary_weight=.*: pass a number of at least 0"):
        with_auxiliary(auxiliary_weight=weight)


# -- several outputs --------------------------------------------------------------------------------------------------


def test_a_step_of_several_inputs_and_outputs_is_the_weighted_sum_of_losses(rng):
    """Outputs of several shapes, one of which other layers read, agree with forward and backward by hand."""
    first, second = several_inputs_and_outputs(), several_inputs_and_outputs()
    randomize(first, rng)
    shared_parameters(first, second)
    xs = normals(rng, first.graph.input_shapes, 4)
    targets = [rng.standard_normal((4, *shape)).astype(np.float32) for shape in output_shapes(first)[:2]]
    targets.append(rng.integers(0, 5, 4))
    losses, weights = ["mse", L.Huber(0.5), L.MeanAbsoluteError()], [0.5, 2, 1]
    loss = first.train_step(xs, targets, nc.SGD(0.1), loss=losses, loss_weights=weights)
    ys = second.forward(xs, training=True)
    functions = [L.mse, lambda y, t: L.huber(y, t, delta=0.5), L.l1]
    parts = [function(y, target) for function, y, target in zip(functions, ys, targets, strict=True)]
    second.backward([weight * dy for weight, (_, dy) in zip(weights, parts, strict=True)])
    nc.SGD(0.1).step(second)
    assert loss == pytest.approx(sum(w * part for w, (part, _) in zip(weights, parts, strict=True)), rel=1e-6)
    for name, array in second.parameters.items():
        np.testing.assert_allclose(first.parameters[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def two_heads():
    x = nc.Input((4, 4, 1))
    flat = nc.Flatten()(x)
    return nc.Model(x, [nc.Dense(3, name="coarse")(flat), nc.Dense(3, name="fine")(flat)])


def test_fit_and_evaluate_use_the_labels_for_every_output(rng):
    images, labels = rng.integers(0, 255, (30, 4, 4, 1), np.uint8), np.arange(30) % 3
    images[labels == 1, :2] //= 4
    images[labels == 2, 2:] //= 4
    model = two_heads()
    options = {"loss": ["cross_entropy", "focal"], "loss_weights": [1, 0.5]}
    history = model.fit((images, labels), epochs=15, batch_size=10, optimizer=nc.SGD(0.1), **options)
    assert history.epochs[-1].loss < 0.5 * history.epochs[0].loss
    found = model.evaluate((images, labels), **options)
    assert found["loss"] == pytest.approx(found["loss.coarse"] + 0.5 * found["loss.fine"])
    assert found["accuracy"] == found["accuracy.coarse"] > 0.9
    assert found["accuracy.fine"] > 0.9
    with pytest.raises(ArgumentError, match="this model has several outputs: use forward"):
        model.predict(images)


def test_labels_are_one_array_for_all_outputs_or_one_for_each(rng):
    x, labels = rng.standard_normal((2, 4, 4, 1)).astype(np.float32), np.array([2, 0])
    model, frozen = two_heads(), nc.SGD(0.0)
    expected = model.train_step(x, labels, frozen)
    for same in ([2, 0], [labels, labels], (labels, [2, 0])):
        assert model.train_step(x, same, frozen) == expected
    assert model.train_step(x, [labels, 2 - labels], frozen) != expected
    with pytest.raises(ArgumentError, match="3 label arrays for a model with 2 outputs"):
        model.train_step(x, [labels] * 3, frozen)
    with pytest.raises(ArgumentError, match="3 losses for a model with 2 outputs"):
        model.train_step(x, labels, frozen, loss=["mse"] * 3)


@pytest.mark.parametrize("weights", [[2.0, 1.0, 0.5], [0.0, 1.0, 3.0]])
def test_evaluate_weights_classes_over_the_whole_set(weights, rng):
    """The result is not the mean of batch means: 300 images run in more than one batch."""
    images, labels = rng.random((300, 4, 4, 1)).astype(np.float32), rng.integers(0, 3, 300)
    model, loss = nc.Sequential([nc.Flatten(), nc.Dense(3)], (4, 4, 1)), L.CrossEntropy(class_weights=weights)
    expected = L.cross_entropy(model.forward(images), labels, class_weights=weights)[0]
    assert model.evaluate((images, labels), loss)["loss"] == pytest.approx(expected, rel=1e-6)


# -- penalties --------------------------------------------------------------------------------------------------------


def penalized(l1=0.01, l2=0.02):
    layers = [nc.Conv2D(5, 3, l1=l1, name="conv"), nc.ReLU(), nc.Flatten(), nc.Dense(70, name="wide", l1=l1, l2=l2),
              nc.Dense(3, name="head")]  # fmt: skip
    return nc.Sequential(layers, (11, 11, 2), seed=4)


def expected_penalty(model, l1=0.01, l2=0.02):
    conv, wide = (model.parameters[name].astype(np.float64) for name in ("conv.weight", "wide.weight"))
    gradients = {"conv.weight": l1 * np.sign(conv), "wide.weight": l1 * np.sign(wide) + 2 * l2 * wide}
    return l1 * (np.abs(conv).sum() + np.abs(wide).sum()) + l2 * (wide**2).sum(), gradients


def test_penalties_are_added_to_the_loss_and_the_weight_gradients(rng):
    """The dense layer is larger than a block of the sum, and not a multiple of one."""
    x, labels = rng.standard_normal((6, 11, 11, 2)).astype(np.float32), rng.integers(0, 3, 6)
    with_penalties, plain = penalized(), penalized(0.0, 0.0)
    assert with_penalties.parameters["wide.weight"].size > 4096
    penalty, gradients = expected_penalty(plain)
    loss, bare = (model.train_step(x, labels, nc.SGD(0.0)) for model in (with_penalties, plain))
    assert loss - bare == pytest.approx(penalty, rel=1e-5)
    for name, gradient in plain.gradients.items():
        expected = gradient + gradients.get(name, 0.0)
        assert_close(np.array(with_penalties.gradients[name]), expected, name, 1e-6)


def test_backward_does_not_add_penalties(rng):
    x, labels = rng.standard_normal((3, 11, 11, 2)).astype(np.float32), rng.integers(0, 3, 3)
    first, second = penalized(), penalized()
    loss, dy = L.cross_entropy(first.forward(x, training=True), labels)
    first.backward(dy)
    untouched = first.gradients["wide.weight"].copy()
    total = loss + first.add_penalties()
    assert np.abs(first.gradients["wide.weight"] - untouched).max() > 0
    assert second.train_step(x, labels, nc.SGD(0.0)) == pytest.approx(total, rel=1e-12)
    for name, gradient in first.gradients.items():
        np.testing.assert_array_equal(second.gradients[name], gradient, name)
    assert penalized(0.0, 0.0).add_penalties() == 0.0


def test_the_penalty_at_zero_and_at_nan():
    model = nc.Sequential([nc.Dense(2, l1=1.0, l2=1.0, name="d")], (2,))
    model.set_parameters({"d.weight": [[0.0, -2.0], [3.0, 0.0]]})
    model.forward(np.zeros((1, 2)), training=True)
    model.backward(np.zeros((1, 2)))
    assert model.add_penalties() == 5 + 13
    np.testing.assert_array_equal(model.gradients["d.weight"], [[0, -5], [7, 0]])
    model.set_parameters({"d.weight": [[np.nan, -2.0], [3.0, 0.0]]})
    assert np.isnan(model.add_penalties())


def test_evaluation_ignores_penalties(rng):
    images, labels = rng.random((5, 11, 11, 2)).astype(np.float32), rng.integers(0, 3, 5)
    assert penalized().evaluate((images, labels)) == penalized(0.0, 0.0).evaluate((images, labels))


@pytest.mark.parametrize(
    "layer", [lambda **options: nc.Conv2D(3, 1, **options), lambda **options: nc.Dense(3, **options)]
)
@pytest.mark.parametrize("options", [{"l1": -1}, {"l2": np.inf}, {"l1": np.nan}, {"l2": "0.1"}])
def test_invalid_penalties_are_rejected(layer, options):
    ((name, value),) = options.items()
    with pytest.raises(ArgumentError, match=f"{name}={value!r}: pass a number of at least 0"):
        layer(**options)
