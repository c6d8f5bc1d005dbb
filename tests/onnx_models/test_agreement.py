"""Small graphs whose outputs must agree with those of onnx's reference, and what differs in onnxruntime."""

import numpy as np
import pytest
from engine import assert_close, generator_of, randomize

import numbacnn as nc

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx_graphs import F, graph_of, loaded, ops_of  # noqa: E402


def agreeing(path, proto, x, max_error=1e-5, reference=True):
    """Compare the outputs for images (N, c, h, w) with those of the reference or onnxruntime; return the model."""
    model = loaded(path, proto)
    with np.errstate(all="ignore"):
        (expected,) = ReferenceEvaluator(proto).run(None, {"x": x}) if reference else in_onnxruntime(path, x)
    y = model.forward(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert_close(y, expected, "loaded", max_error)
    return model


def in_onnxruntime(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x)})


@pytest.mark.parametrize(("filters", "groups"), [(6, 2), (4, 4), (8, 4), (6, 1)])
def test_transposed_convolutions_in_groups_take_a_normalization(filters, groups, tmp_path):
    x = nc.Input((3, 2, 4))
    y = nc.Conv2DTranspose(filters, 3, stride=2, groups=groups)(x)
    model = nc.Model(x, nc.ReLU()(nc.BatchNorm()(y)))
    randomize(model, generator_of(f"{filters} {groups}"))
    images = generator_of("x").standard_normal((2, 3, 2, 4)).astype(F)
    nc.onnx.save(model, tmp_path / "m.onnx", fold=True)
    assert [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node] == ["ConvTranspose", "Relu"]
    (y,) = in_onnxruntime(tmp_path / "m.onnx", images.transpose(0, 3, 1, 2))
    assert_close(y.transpose(0, 2, 3, 1), model.forward(images), "folded")


@pytest.mark.parametrize(("filters", "groups"), [(6, 2), (4, 4), (8, 4), (6, 1)])
def test_transposed_convolutions_in_groups_take_numbers_for_each_channel(filters, groups, tmp_path):
    draw = generator_of("numbers").standard_normal
    arrays = {
        "w": draw((4, filters // groups, 3, 3)).astype(F),
        "k": draw((filters, 1, 1)).astype(F),
        "b": draw((filters, 1, 1)).astype(F),
    }
    nodes = [("ConvTranspose", "x w", "a", {"group": groups}), ("Mul", "a k", "c", {}), ("Add", "c b", "y", {})]
    x = draw((2, 4, 3, 2)).astype(F)
    model = agreeing(tmp_path / "m.onnx", graph_of(nodes, (4, 3, 2), arrays), x, reference=False)  # which has no groups
    assert ops_of(model) == ["conv2d_transpose"]


@pytest.mark.parametrize(
    "nodes",
    [
        [("Relu", "x", "a", {}), ("Add", "a million", "b", {}), ("Log", "b", "y", {})],
        [("Relu", "x", "a", {}), ("Add", "a million", "b", {}), ("Reciprocal", "b", "y", {})],
        [("Sigmoid", "x", "a", {}), ("Add", "a tiny", "b", {}), ("Log", "b", "y", {})],
        [
            ("Sigmoid", "x", "a", {}),
            ("Clip", "a zero below", "b", {}),
            ("Sub", "one b", "c", {}),
            ("Log", "c", "y", {}),
        ],
    ],
)
def test_numbers_that_keep_a_function_finite_are_kept(nodes, tmp_path):
    """Recognition of activations once dropped them: the samples are the same but for its tolerance."""
    arrays = {"million": F(1e-6), "tiny": F(1e-7), "zero": F(0), "below": F(1 - 1e-7), "one": F(1)}
    x = np.array([-200, -3, 0, 2, 200], F).reshape(1, 1, 1, 5)
    model = agreeing(tmp_path / "m.onnx", graph_of(nodes, (1, 1, 5), arrays), x)
    assert np.isfinite(model.forward(x.transpose(0, 2, 3, 1))).all()


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize(("size", "scale"), [(2, 2.4), (3, 1.3), (2, 2.0), (3, 1.0), (4, 0.6), (4, 0.5)])
def test_sizes_that_are_rounded_keep_their_scale(mode, coordinates, size, scale, tmp_path):
    """The reference aligns corners of images that have fractions of a pixel; PyTorch and onnxruntime do not."""
    options = {"mode": mode, "coordinate_transformation_mode": coordinates}
    x = generator_of("x").standard_normal((1, 2, size, size)).astype(F)
    agreeing(tmp_path / "m.onnx", resize_of(size, scale, options), x, reference=coordinates != "align_corners")


def resize_of(size, scale, options):
    proto = graph_of([("Resize", "x", "y", options)], (2, size, size), {"scales": np.array([1, 1, scale, scale], F)})
    proto.graph.node[0].input.extend(["", "scales"])
    return proto


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    ("roi", "sizes"),
    [
        ((0.4, 0.6, 0.6, 0.8), (3, 3)),
        ((-0.2, 0.3, 1.2, 1.7), (4, 5)),
        ((0, 0, 1, 1), (4, 4)),
        ((0.1, 0.2, 0.9, 0.6), (1, 1)),
    ],
)
def test_crops_have_a_number_outside_of_the_image(mode, roi, sizes, tmp_path):
    options = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 10.0}
    arrays = {"roi": np.array([0, 0, *roi[:2], 1, 1, *roi[2:]], F), "sizes": np.array([1, 2, *sizes])}
    proto = graph_of([("Resize", "x", "y", options)], (2, 4, 4), arrays)
    proto.graph.node[0].input.extend(["roi", "", "sizes"])
    model = agreeing(tmp_path / "m.onnx", proto, generator_of("x").standard_normal((1, 2, 4, 4)).astype(F))
    nc.onnx.save(model, tmp_path / "again.onnx")
    again = nc.onnx.load(tmp_path / "again.onnx")
    x = generator_of("y").standard_normal((2, 4, 4, 2)).astype(F)
    np.testing.assert_allclose(again.forward(x), model.forward(x), atol=1e-5)


@pytest.mark.parametrize("region", [(0, 0, 1, 1), (-0.21, 0.32, 1.23, 1.74), (0.11, -1.72, 0.93, 0.14)])
@pytest.mark.parametrize("size", [(4, 7), (1, 5)])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_regions_that_are_larger_than_the_image_repeat_its_edge(region, size, mode, tmp_path):
    model = nc.Sequential([nc.Resize2D((5, 3), mode, "align_corners", region=region)], (*size, 2))
    nc.onnx.save(model, tmp_path / "m.onnx")
    x = generator_of("x").standard_normal((2, *size, 2)).astype(F)
    (y,) = in_onnxruntime(tmp_path / "m.onnx", np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(y.transpose(0, 2, 3, 1), model.forward(x), atol=1e-5)


def test_onnxruntime_copies_an_image_whose_size_stays(tmp_path):
    """3 pixels by 1.3 are 3 pixels, which by the specification are others than before: docs/onnx.md says so."""
    options = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    x = generator_of("x").standard_normal((1, 2, 3, 3)).astype(F)
    model = agreeing(tmp_path / "m.onnx", resize_of(3, 1.3, options), x)
    (y,) = in_onnxruntime(tmp_path / "m.onnx", x)
    np.testing.assert_array_equal(y, x)
    assert abs(model.forward(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) - x).max() > 0.1


@pytest.mark.parametrize("kind", ["Max", "Min"])
@pytest.mark.parametrize("bound", [1e-6, 12345.678, -3e7])
def test_extremes_of_constants_keep_all_digits(kind, bound, tmp_path):
    bounds = np.array([bound, -bound, 0.5], F).reshape(3, 1, 1)
    x = np.array([-4e7, -1.2345678, 1e-7, 0.1, 12345.679, 12345.677], F).reshape(1, 1, 2, 3).repeat(3, axis=1)
    model = loaded(tmp_path / "m.onnx", graph_of([(kind, "x b", "y", {})], (3, 2, 3), {"b": bounds}))
    y = model.forward(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(y, (np.maximum if kind == "Max" else np.minimum)(x, bounds))


@pytest.mark.parametrize("after", [("Cast", {"to": 1}), ("Identity", {})])
def test_argmax_ends_the_network_or_is_rejected(after, tmp_path):
    """They were once taken for the scores, whatever followed."""
    op, attributes = after
    nodes = [("ArgMax", "x", "a", {"axis": 1}), (op, "a", "b", attributes)]
    model = loaded(tmp_path / "m.onnx", graph_of(nodes, (3, 2, 2), outputs=("b",)))
    x = generator_of("x").standard_normal((1, 2, 2, 3)).astype(F)
    np.testing.assert_array_equal(model.forward(x), x)
    for follows in ([("Add", "b one", "y", {})], [("Mul", "b x", "y", {})], [("Relu", "b", "y", {})]):
        with pytest.raises(nc.ModelFileError, match=r'ArgMax "a": positions of maxima, other than of the classes at'):
            loaded(tmp_path / "m.onnx", graph_of([*nodes, *follows], (3, 2, 2), {"one": F(1)}))


@pytest.mark.parametrize("output", [[7, 9], [8, 9], [9, 10]])
@pytest.mark.parametrize("auto", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
def test_transposed_convolutions_of_a_given_size_count_output_padding(output, auto, tmp_path):
    """The size follows ONNX's formula; the reference leaves out the padding of the output."""
    options = {"strides": (2, 2), "output_shape": output, "output_padding": (1, 1), "auto_pad": auto}
    weight = generator_of("w").standard_normal((1, 1, 3, 3)).astype(F)
    x = generator_of("x").standard_normal((1, 1, 4, 5)).astype(F)
    if auto == "NOTSET":
        del options["auto_pad"]
    model = loaded(tmp_path / "m.onnx", graph_of([("ConvTranspose", "x w", "y", options)], (1, 4, 5), {"w": weight}))
    whole = np.zeros((12, 14))
    for i in range(4):
        for j in range(5):
            whole[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += x[0, 0, i, j] * weight[0, 0]
    totals = [2 * (n - 1) + 1 + 3 - size for n, size in zip((4, 5), output, strict=True)]
    first = [max(0, t // 2 if auto == "SAME_UPPER" else t - t // 2) for t in totals]
    expected = whole[first[0] : first[0] + output[0], first[1] : first[1] + output[1]]
    assert_close(model.forward(x.transpose(0, 2, 3, 1))[0, :, :, 0], expected, "output")


def test_numbers_for_each_channel_do_not_change_what_another_name_reads(tmp_path):
    """An Identity and a Flatten read the convolution under other names than the product."""
    nodes = [("Conv", "x w", "a", {}), ("Identity", "a", "b", {}), ("Mul", "b k", "c", {}), ("Add", "a c", "y", {})]
    draw = generator_of("names").standard_normal
    arrays = {"w": draw((4, 3, 1, 1)).astype(F), "k": draw((4, 1, 1)).astype(F)}
    agreeing(tmp_path / "m.onnx", graph_of(nodes, (3, 2, 2), arrays), draw((2, 3, 2, 2)).astype(F))
