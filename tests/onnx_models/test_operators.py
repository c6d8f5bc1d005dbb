"""Operators in our layers, where ONNX's own cases do not show it: recognition, batches, exactness."""

import numpy as np
import pytest
from engine import assert_close, generator_of

import numbacnn as nc

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from onnx_graphs import F, graph_of, loaded, ops_of  # noqa: E402


def computed(path, nodes, x, arrays=(), **options):
    """The output for images or features as ONNX has them."""
    model = loaded(path, graph_of(nodes, x.shape[1:], arrays, **options))
    y = model.forward(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x.reshape(len(x), -1))
    return model, y.transpose(0, 3, 1, 2) if y.ndim == 4 else y


@pytest.mark.parametrize(("low", "high"), [(0, 10), (0, 20), (-10, 10), (1e-6, None), (None, 30)])
def test_bounds_outside_the_usual_range_are_kept(low, high, tmp_path):
    """They were once taken for ReLU, which is the same between −8 and 8."""
    x = np.array([[-40, -9, 0, 1e-7, 9, 15, 25, 40]], F)
    arrays = {name: F(value) for name, value in (("low", low), ("high", high)) if value is not None}
    proto = graph_of([("Clip", "x", "y", {})], (8,), arrays)
    del proto.graph.node[0].input[:]
    proto.graph.node[0].input.extend(["x", "low" if low is not None else "", "high" if high is not None else ""])
    y = loaded(tmp_path / "m.onnx", proto).forward(x)
    np.testing.assert_allclose(y, np.clip(x, low, high), rtol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "op"),
    [
        ([("Softplus", "x", "a", {}), ("Tanh", "a", "b", {}), ("Mul", "x b", "y", {})], "mish"),
        ([("Sqrt", "x", "y", {})], "sqrt"),
        ([("Pow", "x half", "y", {})], "sqrt"),
        ([("Div", "one x", "y", {})], "reciprocal"),
    ],
)
def test_functions_are_recognized(nodes, op, tmp_path):
    model = loaded(tmp_path / "m.onnx", graph_of(nodes, (3, 4, 5), {"half": F(0.5), "one": F(1)}))
    assert [node.layer.attributes() for node in model.graph.nodes] == [{"function": op}]


def test_the_norm_of_zeros_is_bounded_as_pytorch_writes_it(tmp_path):
    """F.normalize: x / max(‖x‖, 1e-12), where the bound must not become 0."""
    nodes = [
        ("ReduceL2", "x axes", "a", {"keepdims": 1}),
        ("Clip", "a tiny", "b", {}),
        ("Expand", "b shape", "c", {}),
        ("Div", "x c", "y", {}),
    ]
    arrays = {"axes": np.array([1]), "tiny": F(1e-12), "shape": np.array([1, 5])}
    x = np.array([[0, 0, 0, 0, 0], [3, 0, 4, 0, 0]], F)
    _, y = computed(tmp_path / "m.onnx", nodes, x, arrays)
    assert_close(y, np.array([[0, 0, 0, 0, 0], [0.6, 0, 0.8, 0, 0]], F), "normalized")


@pytest.mark.parametrize(("mode", "name"), [("reflect", "reflect"), ("edge", "edge"), ("wrap", "wrap")])
def test_padding_repeats_pixels_and_has_gradients(mode, name, tmp_path):
    x, pads = generator_of("pad").standard_normal((2, 3, 4, 5)).astype(F), np.array([0, 0, 2, 1, 0, 0, 3, 2])
    model, y = computed(tmp_path / "m.onnx", [("Pad", "x pads", "y", {"mode": mode})], x, {"pads": pads}, opset=19)
    expected = np.pad(x, ((0, 0), (0, 0), (2, 3), (1, 2)), mode=name)
    np.testing.assert_array_equal(y, expected)
    model.forward(x.transpose(0, 2, 3, 1), training=True)
    dx = model.backward(np.ones((2, 9, 8, 3), F))
    counts = np.zeros((4, 5))
    rows, columns = (np.pad(np.arange(n), sides, mode=name) for n, sides in ((4, (2, 3)), (5, (1, 2))))
    np.add.at(counts, np.ix_(rows, columns), 1)
    np.testing.assert_array_equal(dx, np.broadcast_to(counts[None, :, :, None], dx.shape))


def test_padding_by_a_number_is_exact(tmp_path):
    x, pads = generator_of("pad").standard_normal((2, 3, 4, 5)).astype(F), np.array([0, 0, 2, 1, 0, 0, 0, 2])
    _, y = computed(tmp_path / "m.onnx", [("Pad", "x pads v", "y", {})], x, {"pads": pads, "v": F(-np.inf)})
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), (2, 0), (1, 2)), constant_values=-np.inf))


def test_layer_normalization_of_pixels_trains_one_weight_for_each_channel(tmp_path):
    """ConvNeXt normalizes the channels of each pixel, after a transpose."""
    nodes = [
        ("Transpose", "x", "a", {"perm": (0, 2, 3, 1)}),
        ("LayerNormalization", "a w b", "c", {"axis": -1, "epsilon": 1e-6}),
        ("Transpose", "c", "y", {"perm": (0, 3, 1, 2)}),
    ]
    generator = generator_of("norm")
    arrays = {name: generator.standard_normal(6).astype(F) for name in "wb"}
    x = generator.standard_normal((2, 6, 3, 4)).astype(F)
    proto = graph_of([("Relu", "x", "r", {}), *[(op, i.replace("x", "r"), y, a) for op, i, y, a in nodes]], (6, 3, 4),
                     arrays)  # fmt: skip
    model = loaded(tmp_path / "m.onnx", proto)
    trained = set(model.parameters) - model.store.frozen
    assert {model.parameters[name].shape for name in trained} == {(1, 1, 1, 6), (6,)}
    z = np.maximum(x, 0)
    mean, variance = z.mean(1, keepdims=True), z.var(1, keepdims=True)
    w, b = (arrays[name].reshape(6, 1, 1) for name in "wb")
    y = model.forward(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert_close(y, (z - mean) / np.sqrt(variance + 1e-6) * w + b, "normalized", 1e-5)


def test_resizing_to_any_size_uses_one_layer(tmp_path):
    options = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    proto = graph_of([("Resize", "x", "y", options)], (3, 4, 5), {"sizes": np.array([1, 3, 7, 3])})
    proto.graph.node[0].input.extend(["", "", "sizes"])
    model = loaded(tmp_path / "m.onnx", proto)
    assert ops_of(model) == ["resize2d"]
    x = generator_of("x").standard_normal((2, 4, 5, 3)).astype(F)
    rows = np.stack([np.interp(np.linspace(0, 3, 7), range(4), column) for column in x[0, :, 0].T], 1)
    assert_close(model.forward(x)[0, :, 0], rows, "first column")


def test_a_file_without_a_batch_computes_any_number_of_images(tmp_path):
    nodes = [("Transpose", "x", "a", {"perm": (1, 2, 0)}), ("Split", "a", "b c", {"axis": 2, "num_outputs": 2})]
    made = [onnx.helper.make_node(op, i.split(), o.split(), **attributes) for op, i, o, attributes in nodes]
    made += [
        onnx.helper.make_node("Sub", ["b", "c"], ["d"]),
        onnx.helper.make_node("Transpose", ["d"], ["y"], perm=[2, 0, 1]),
    ]
    value = onnx.helper.make_tensor_value_info
    x, y = value("x", onnx.TensorProto.FLOAT, (4, 5, 6)), value("y", onnx.TensorProto.FLOAT, None)
    model = onnx.helper.make_model(onnx.helper.make_graph(made, "g", [x], [y]),
                                   opset_imports=[onnx.helper.make_opsetid("", 18)])  # fmt: skip
    onnx.save(model, tmp_path / "m.onnx")
    network = nc.onnx.load(tmp_path / "m.onnx", batch_axis=False)
    assert network.input_shape == (5, 6, 4)
    images = generator_of("x").standard_normal((3, 5, 6, 4)).astype(F)
    np.testing.assert_array_equal(network.forward(images), images[..., :2] - images[..., 2:])
    with pytest.raises(nc.ModelFileError, match="moves the batch"):
        nc.onnx.load(tmp_path / "m.onnx")


def test_doubles_are_computed_in_float32(tmp_path):
    proto = graph_of([("Exp", "x", "y", {})], (3,))
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    y = loaded(tmp_path / "m.onnx", proto).forward(np.ones((1, 3), F))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, np.e, rtol=1e-6)


def test_products_over_axes_are_limited(tmp_path):
    with pytest.raises(nc.ModelFileError, match="a product of 100 elements"):
        loaded(tmp_path / "m.onnx", graph_of([("ReduceProd", "x axes", "y", {})], (100,), {"axes": np.array([1])}))
