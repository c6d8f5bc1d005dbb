"""Graphs: recording, names, fusion, several inputs and outputs, errors, and the form in model files."""

import json

import numpy as np
import pytest
from engine import assert_close, assert_same_bits, generator_of, normals, run, run_planned
from graphs import NAMED, SMALL, arrays, fused_chain, listed, models
from hypothesis import given

import numbacnn as nc
from numbacnn.engine.graph_format import FORMAT_VERSION, from_dict, to_dict
from numbacnn.engine.plan import make_plan
from numbacnn.errors import ArgumentError, GeometryError, ModelFileError
from numbacnn.kernels.cpu import sizes

# -- kinds ------------------------------------------------------------------------------------------------------------


class Bent(nc.ReLU):
    """A custom layer."""


def test_only_layers_of_equal_arguments_and_input_shapes_are_of_one_kind():
    def conv(**options):
        return nc.Conv2D(4, 3, padding="same", **options)

    x = y = nc.Input((6, 6, 2))
    made = [conv(), conv(), conv(name="third"), conv(bias=False), conv(l2=0.5), nc.ReLU(), nc.ReLU(), Bent(), Bent()]
    made += [nc.Dropout(0.2), nc.Dropout(0.3), nc.Dropout(0.2), nc.Flatten(), nc.ReLU()]
    for layer in made:
        y = layer(y)
    nodes = nc.Model(x, y).graph.nodes
    kinds = [node.kind for node in nodes]
    assert [kinds.index(kind) for kind in kinds] == [0, 1, 1, 3, 4, 5, 5, 7, 8, 9, 10, 9, 12, 13]
    assert [node.layer for node in nodes] == made
    for node in nodes:
        assert node.geometry == node.layer.geometry(node.input_shapes)
        assert node.shape == node.layer.output_shape(node.input_shapes)
        assert node.kind.parameters == node.layer.parameters(node.input_shapes)
        assert list(node.parameters) == [f"{node.name}.{name}" for name in node.kind.parameters]
        assert node.kind.flops == node.layer.flops(node.geometry, node.shape)


# -- names ------------------------------------------------------------------------------------------------------------


def test_unnamed_layers_are_numbered_by_kind_in_order_of_recording():
    x = nc.Input((8, 8, 3))
    stem = nc.Conv2D(4, 3, padding="same", name="stem")(x)
    late = nc.Conv2D(4, 1)  # made first, recorded last
    early = nc.Conv2D(4, 1)(x)
    h = nc.Add()([stem, early, late(x)])
    model = nc.Model(x, nc.Dense(3)(nc.Flatten()(nc.ReLU(name="block1/relu")(h))))
    assert [node.name for node in model.graph.nodes] == [
        "stem", "conv2d_2", "conv2d_3", "add_1", "block1/relu", "flatten_1", "dense_1",
    ]  # fmt: skip
    assert list(model.parameters) == [
        f"{name}.{kind}" for name in ("stem", "conv2d_2", "conv2d_3", "dense_1") for kind in ("weight", "bias")
    ]
    assert model.parameters["stem.weight"].shape == (3, 3, 3, 4)


def test_layers_that_no_output_depends_on_are_left_out_and_not_numbered():
    x = nc.Input((4,))
    nc.Dense(9)(x)
    assert list(nc.Model(x, nc.Dense(2)(x)).parameters) == ["dense_1.weight", "dense_1.bias"]


def test_one_specification_serves_several_models():
    layer = nc.Dense(2, name="shared")
    first, second = (nc.Sequential([layer], (3,), seed=seed) for seed in (0, 1))
    assert np.abs(first.parameters["shared.weight"] - second.parameters["shared.weight"]).max() > 0


# -- gradients and fusion ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", SMALL)
def test_gradients_match_a_central_difference_of_the_whole_model(make):
    """A coarse check in float32; that of the oracle, in float64, is the precise one."""
    model = make()
    xs, dys = arrays(model)
    found, draw, step = run(model, xs, dys), generator_of(make.__name__), 2e-3
    directions = normals(draw, [x.shape[1:] for x in xs], len(xs[0]))

    def value(t):
        moved = [x + np.float32(t) * u for x, u in zip(xs, directions, strict=True)]
        ys = run(model, moved, dys).ys
        return sum(np.vdot(y.astype(np.float64), dy) for y, dy in zip(ys, dys, strict=True))

    slope = (value(step) - value(-step)) / (2 * step)
    parts = [dx * u for dx, u in zip(found.dxs, directions, strict=True)]
    assert abs(slope - sum(part.sum() for part in parts)) <= 0.01 * sum(np.abs(part).sum() for part in parts)


def test_relu_fused_into_convolution_and_dense_gives_the_same_bits():
    layers = [nc.Conv2D(17, 3, padding="same"), nc.ReLU(), nc.Conv2D(3, 2, groups=1), nc.ReLU(), nc.Flatten(),
              nc.Dense(35), nc.ReLU(), nc.Dense(2)]  # fmt: skip
    model = listed(nc.Sequential(layers, (6, 7, 3)))
    xs, dys = arrays(model)
    assert_same_bits(run_planned(model, xs, dys), run_planned(model, xs, dys, fuse=False), "fused")


@pytest.mark.parametrize("count", [2, 3, 4])
def test_relu_fused_into_sums_gives_the_same_bits(count):
    x = nc.Input((5, 6, 3))
    h = nc.ReLU()(nc.Add()([nc.Conv2D(7, 3, padding="same")(x) for _ in range(count)]))
    model = nc.Model([x], [nc.Conv2D(2, 3)(h)])
    assert "relu" not in [step.node.layer.op for step in make_plan(model.graph, sizes, 2, training=True).forward]
    xs, dys = arrays(model)
    assert_same_bits(run_planned(model, xs, dys), run_planned(model, xs, dys, fuse=False), "fused")


@pytest.mark.parametrize("activation", [nc.ReLU, nc.Tanh, nc.Sigmoid])
@pytest.mark.parametrize("stride", [2, 3])
def test_activation_gradients_applied_after_max_pools_give_the_same_bits(activation, stride):
    """Windows do not overlap, so every gradient is multiplied once, before or after the pool."""
    layers = [nc.Conv2D(8, 3, padding=1), activation(), nc.MaxPool2D(2, stride), nc.Conv2D(2, 1)]
    model = listed(nc.Sequential(layers, (9, 8, 2)))
    xs, dys = arrays(model)
    assert_same_bits(run_planned(model, xs, dys), run_planned(model, xs, dys, fuse=False), "moved")


@pytest.mark.parametrize("activation", [nc.ReLU, nc.Tanh, nc.Sigmoid])
def test_activation_gradients_applied_after_overlapping_max_pools_agree_to_rounding(activation):
    layers = [nc.Conv2D(5, 3, padding=1), activation(), nc.MaxPool2D(3, 1, padding="same")]
    model = listed(nc.Sequential(layers, (9, 8, 2)))
    xs, dys = arrays(model)
    fused, unfused = run_planned(model, xs, dys), run_planned(model, xs, dys, fuse=False)
    for (name, found), expected in zip(fused.named().items(), unfused.named().values(), strict=True):
        assert_close(found, expected, name, 1e-6)


def test_a_value_that_is_an_output_is_not_fused_away():
    x = nc.Input((5, 5, 2))
    h = nc.Conv2D(3, 3)(x)
    model = nc.Model([x], [h, nc.ReLU()(h)])
    raw, rectified = model.forward([generator_of("x").standard_normal((2, 5, 5, 2))])
    assert raw.min() < 0
    np.testing.assert_array_equal(rectified, np.maximum(raw, 0))


def test_an_input_that_no_output_reads_has_zero_gradient():
    used, unused = nc.Input((3,)), nc.Input((4,))
    model = nc.Model([used, unused], [nc.Dense(2)(used)])
    model.forward([np.ones((2, 3)), np.ones((2, 4))], training=True)
    dx, nothing = model.backward([np.ones((2, 2))])
    assert np.abs(dx).min() > 0
    np.testing.assert_array_equal(nothing, np.zeros((2, 4), np.float32))


# -- errors -----------------------------------------------------------------------------------------------------------

IMAGE, FEATURES = nc.Input((3, 4, 2)), nc.Input((7,))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda: nc.Conv2D(4, 5, name="features.3")(IMAGE), r'Conv2D "features.3": window 5×5 exceeds .* 3×4.*"same"'),
        (lambda: nc.Conv2D(4, 2, dilation=3)(IMAGE), r"Conv2D: window 2×2 \(4×4 with its dilation\) exceeds .* 3×4"),
        (lambda: nc.Conv2D(4, 1, groups=4)(IMAGE), "groups=4 must divide both the 2 input channels and the 4 filters"),
        (lambda: nc.MaxPool2D(5, name="pool")(IMAGE), 'MaxPool2D "pool": window 5×5 exceeds the padded input 3×4'),
        (lambda: nc.AvgPool2D(2, padding=2)(IMAGE), "AvgPool2D: padding .* windows of 2×2 wholly outside"),
        (lambda: nc.Dense(3, name="head")(IMAGE), r'Dense "head": .*not \(3, 4, 2\); put a Flatten before it'),
        (lambda: nc.Conv2D(3, 1)(FEATURES), r"Conv2D: input must be an image .* not \(7,\)"),
        (lambda: nc.AdaptiveMaxPool2D(2)(FEATURES), r"AdaptiveMaxPool2D: input must be an image .* not \(7,\)"),
        (lambda: nc.Upsample2D(2)(FEATURES), r"Upsample2D: input must be an image"),
        (lambda: nc.Slice(channels=(0, 9))(nc.Input((4, 4, 3))), r"Slice: channels 0 to 9 of an image with 3"),
        (lambda: nc.ZeroPad2D(2)(FEATURES), r"ZeroPad2D: input must be an image"),
        (lambda: nc.Reshape((5, -1, 1))(IMAGE), r"input \(3, 4, 2\) has 24 elements, which do not fill \(5, -1, 1\)"),
        (lambda: nc.Reshape((23,))(IMAGE), r"input \(3, 4, 2\) has 24 elements, which do not fill \(23,\)"),
        (lambda: nc.Reshape((5, -1, 9))(IMAGE), r"has 24 elements, which do not fill \(5, -1, 9\)"),
        (
            lambda: nc.Concat(name="join")([IMAGE, FEATURES]),
            r'Concat "join": inputs differ in more than their channels',
        ),
        (lambda: nc.Multiply()([IMAGE, FEATURES]), r"inputs of shapes \(3, 4, 2\), \(7,\): pass two of one shape, or"),
        (lambda: nc.Multiply()([IMAGE, nc.Input((1, 4, 2))]), r"inputs of shapes \(3, 4, 2\), \(1, 4, 2\): pass two"),
        (lambda: nc.layers.squeeze_excite(FEATURES), r"input must be an image"),
        (lambda: nc.Add(name="sum")([IMAGE, FEATURES]), r'Add "sum": inputs differ in shape: \(3, 4, 2\), \(7,\)'),
    ],
)
def test_impossible_geometry_names_the_layer_and_the_numbers(record, message):
    with pytest.raises(GeometryError, match=message):
        record()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda: nc.Add()([IMAGE]), "Add needs two or more inputs, not 1"),
        (lambda: nc.ReLU(name="r")([IMAGE, IMAGE]), 'ReLU "r" needs 1 input, not 2'),
        (lambda: nc.Multiply()([IMAGE, IMAGE, IMAGE]), "Multiply needs 2 inputs, not 3"),
        (lambda: nc.Concat()([IMAGE]), "Concat needs two or more inputs, not 1"),
        (lambda: nc.LeakyReLU(-1), "slope=-1: pass a number of at least 0"),
        (lambda: nc.LeakyReLU("steep"), "slope='steep': pass a number"),
        (lambda: nc.ELU(float("nan")), "alpha=nan: pass a number of at least 0"),
        (lambda: nc.GELU("erf"), 'approximate=\'erf\': choose "none" or "tanh"'),
        (lambda: nc.AdaptiveAvgPool2D((0, 1)), r"output_size=\(0, 1\): pass one integer, or two"),
        (lambda: nc.Upsample2D(0.5), "factor=0.5: pass one integer, or two"),
        (lambda: nc.Upsample2D(2, "bicubic"), 'mode=\'bicubic\': choose "nearest" or "bilinear"'),
        (lambda: nc.ZeroPad2D("same"), "padding='same': pass an integer, .height, width. or"),
        (lambda: nc.Slice((2, 2)), r"rows=\(2, 2\): pass \(first, end\), the first below the end"),
        (lambda: nc.ZeroPad2D(-1), "padding=-1: .*none negative"),
        (lambda: nc.Reshape((2, 3)), r"shape=\(2, 3\): pass \(height, width, channels\) or \(features,\)"),
        (lambda: nc.Reshape((-1, 2, -1)), "with at most one -1"),
        (lambda: nc.Reshape((0,)), r"a size of shape \(0,\)=0: pass a whole number"),
        (lambda: nc.layers.squeeze_excite(IMAGE, 0), "reduction=0: pass a whole number"),
        (lambda: nc.ReLU()(np.zeros((3, 4, 2))), "ReLU needs symbolic tensors"),
        (lambda: nc.ReLU()([]), "ReLU needs symbolic tensors"),
        (lambda: nc.Input((3, 4)), r"input shape \(3, 4\)"),
        (lambda: nc.Input((3, 0, 1)), r"input shape \(3, 0, 1\)"),
        (lambda: nc.Conv2D(0, 3), "filters=0: pass a whole number"),
        (lambda: nc.Conv2D(4, 0), "kernel_size=0"),
        (lambda: nc.Conv2D(4, 3, algorithm="fft"), "algorithm='fft'"),
        (lambda: nc.Conv2D(4, 3, initializer="he"), "initializer='he': choose .*he_normal"),
        (lambda: nc.Dense(0), "units=0: pass a whole number"),
        (lambda: nc.MaxPool2D(2, stride=0), "stride=0"),
        (lambda: nc.Model(IMAGE, IMAGE), "no layers between"),
        (lambda: nc.Model(FEATURES, nc.Dense(1)(nc.Input((3,)))), r"an Input of shape \(3,\) that is not among"),
        (lambda: nc.Sequential([nc.Dense(1, name="a b")], (3,)), "'a b' cannot be a name"),
    ],
)
def test_wrong_arguments_are_rejected_with_the_remedy(record, message):
    with pytest.raises(ArgumentError, match=message):
        record()


def test_a_layer_is_used_once_in_a_model():
    layer, x = nc.Dense(7, name="twice"), nc.Input((7,))
    with pytest.raises(ArgumentError, match=r"twice.* is used 2 times in one model; make a layer for each use"):
        nc.Model(x, layer(layer(x)))


def test_repeated_names_are_rejected():
    x = nc.Input((7,), name="x")
    for layers in ([nc.Dense(2, name="a"), nc.Dense(2, name="a")], [nc.ReLU(name="dense_1"), nc.Dense(2)]):
        with pytest.raises(ArgumentError, match=r'2 layers are called "(a|dense_1)"'):
            nc.Model(x, layers[1](layers[0](x)))
    with pytest.raises(ArgumentError, match='an input and a layer share the name "x"'):
        nc.Model(x, nc.Dense(2, name="x")(x))


# -- the form in model files ------------------------------------------------------------------------------------------


def assert_returns(model):
    form = json.loads(json.dumps(to_dict(model.graph)))
    again = from_dict(form)
    assert json.loads(json.dumps(to_dict(again))) == form
    assert again.shapes == model.graph.shapes
    assert again.outputs == model.graph.outputs
    assert again.parameters() == model.graph.parameters()
    assert [node.inputs for node in again.nodes] == [node.inputs for node in model.graph.nodes]


@pytest.mark.parametrize("make", NAMED)
def test_graphs_survive_json(make):
    assert_returns(make())


@given(models())
def test_any_graph_survives_json(model):
    assert_returns(model)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda form: form.update(version=FORMAT_VERSION + 1),
            "version 2, newer than this numbacnn reads .1.; upgrade",
        ),
        (lambda form: form.pop("version"), "has no version"),
        (lambda form: form.pop("nodes"), "cannot be rebuilt.*nodes"),
        (lambda form: form["nodes"][0].update(op="conv3d"), "\"conv2d_1\" is of an unknown kind 'conv3d'; .*'conv2d'"),
        (lambda form: form["nodes"][0]["attributes"].update(color=1), "conv2d_1.*unknown attribute 'color'"),
        (lambda form: form["nodes"][0]["attributes"].pop("filters"), "cannot be rebuilt: .*filters"),
        (lambda form: form["nodes"][0]["attributes"].update(filters=-3), "cannot be rebuilt: .*-3"),
        (lambda form: form["nodes"][0]["attributes"].update(kernel_size=[99, 99], padding=1), "window 99×99 exceeds"),
        (lambda form: form["nodes"][0].update(inputs=[]), "has no inputs"),
        (lambda form: form["nodes"][0].update(inputs=["nobody"]), "cannot be rebuilt: 'nobody'"),
        (
            lambda form: form["inputs"][0].update(shape=[0, 1, 1]),
            r"cannot be rebuilt: a size of input shape \(0, 1, 1\)",
        ),
        (lambda form: form.update(nodes=7), "cannot be rebuilt"),
    ],
)
def test_damaged_forms_are_rejected_with_the_reason(damage, message):
    form = json.loads(json.dumps(to_dict(fused_chain().graph)))
    damage(form)
    with pytest.raises(ModelFileError, match=message):
        from_dict(form)


@pytest.mark.parametrize("form", [None, [], "graph", 3])
def test_other_data_than_a_graph_is_rejected(form):
    with pytest.raises(ModelFileError, match="has no version"):
        from_dict(form)
