"""Exported files compute in onnxruntime what the model computes: every layer, every architecture, every option."""

import json
import sys

import numpy as np
import pytest
from architectures import each_architecture
from cases import OPS
from command_line import numbacnn, rejected
from engine import assert_close, generator_of, one_layer, randomize
from graphs import several_inputs_and_outputs

import numbacnn as nc
from numbacnn.data.normalization import Normalization

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SMALL = {"lenet5": (28, 28, 1), "simple_cnn": (28, 28, 1), "alexnet": (63, 63, 3), "unet": (16, 16, 1)}
OPTIONS = ({}, {"layout": "nhwc", "opset": 15}, {"opset": 22})
DRAWN = 5  # cases of each op besides those picked by hand


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def exported(path, model, xs, **options):
    """The outputs of the exported file in onnxruntime, images N×H×W×C."""
    nc.onnx.save(model, path, **options)
    first = options.get("layout") != "nhwc"
    feeds = {
        name: x.transpose(0, 3, 1, 2) if first and x.ndim == 4 else x
        for name, x in zip(model.graph.input_names, xs, strict=True)
    }
    ys = session_of(path).run(None, {name: np.ascontiguousarray(x) for name, x in feeds.items()})
    return [y.transpose(0, 2, 3, 1) if first and y.ndim == 4 else y for y in ys]


@pytest.mark.parametrize("op", OPS)
def test_every_layer(op, tmp_path):
    for case in [*OPS[op].picked, *OPS[op].drawn()[:DRAWN]]:
        model, xs = one_layer(case), case.inputs()
        for options in OPTIONS:
            (y,) = exported(tmp_path / "m.onnx", model, xs, **options)
            assert_close(y, model.forward(xs)[0], f"{case} {options}")


def zoo(name):
    """A model with weights that preserve the scale of values, and two images."""
    model = nc.models.make(name, input_shape=SMALL.get(name, (32, 32, 3)), classes=5)
    randomize(model, generator_of(name))
    return model, generator_of(name).standard_normal((2, *model.input_shape)).astype(np.float32)


FAST = ("lenet5", "simple_cnn", "resnet20", "unet_small", "grid_detector", "mobilenet_v2")


@each_architecture(FAST)
def test_every_architecture(name, tmp_path):
    model, images = zoo(name)
    for fold in (False, True):
        (y,) = exported(tmp_path / "m.onnx", model, [images], fold=fold)
        assert_close(y, model.forward(images), f"{name}, fold={fold}", 1e-4)
        nodes = onnx.load(tmp_path / "m.onnx").graph.node
        assert "Transpose" not in [node.op_type for node in nodes]
        assert not fold or not _foldable(nodes)


def _foldable(nodes):
    """Batch normalizations that alone read the output of a convolution."""
    made_by = {output: node.op_type for node in nodes for output in node.output}
    reads = [name for node in nodes for name in node.input]
    norms = [node.input[0] for node in nodes if node.op_type == "BatchNormalization"]
    return [name for name in norms if made_by.get(name) == "Conv" and reads.count(name) == 1]


def test_several_inputs_and_outputs(tmp_path):
    model = several_inputs_and_outputs()
    xs = [generator_of("several").standard_normal((3, *shape)).astype(np.float32) for shape in model.graph.input_shapes]
    for options in OPTIONS:
        for i, y in enumerate(exported(tmp_path / "m.onnx", model, xs, **options)):
            assert_close(y, model.forward(xs)[i], f"output {i} {options}")


def flattened():
    """Flattened images that reach layers of every kind, and the outputs, in our order of features."""
    x = nc.Input((3, 4, 5))
    flat = nc.BatchNorm()(nc.ReLU()(nc.Flatten()(x)))
    joined = nc.Concat()([nc.PReLU()(flat), nc.Dense(4)(nc.Dropout()(flat))])
    image = nc.Reshape((4, 4, 4))(joined)
    return nc.Model([x], [nc.Flatten()(image), nc.Dense(3)(nc.Add()([flat, flat])), nc.Softmax()(flat)])


def test_flattened_images_keep_our_order(tmp_path):
    model = flattened()
    randomize(model, generator_of("flattened"))
    x = generator_of("x").standard_normal((2, 3, 4, 5)).astype(np.float32)
    for options in (*OPTIONS, {"fold": True}):
        for i, y in enumerate(exported(tmp_path / "m.onnx", model, [x], **options)):
            assert_close(y, model.forward([x])[i], f"output {i} {options}")


def test_an_input_or_dropout_as_output(tmp_path):
    x = nc.Input((2, 3, 1))
    model = nc.Model([x], [x, nc.Dropout()(nc.ReLU()(x))])
    image = generator_of("x").standard_normal((2, 2, 3, 1)).astype(np.float32)
    for y, expected in zip(exported(tmp_path / "m.onnx", model, [image]), model.forward([image]), strict=True):
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_raw_images_to_probabilities(tmp_path, layout):
    """The file does what predict does."""
    model = nc.models.simple_cnn(input_shape=(12, 12, 3), classes=4)
    model.normalization = Normalization((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    images = generator_of("raw").integers(0, 256, (3, 12, 12, 3), np.uint8)
    (y,) = exported(tmp_path / "m.onnx", model, [images], layout=layout, raw_images=True, probabilities=True)
    assert_close(y, model.predict(images), layout)


def test_metadata_names_and_versions(tmp_path):
    model = nc.models.lenet5(classes=3)
    model.classes, model.task = ("cat", "dog", "ship"), "classify"
    model.normalization = Normalization((0.5,), (0.25,))
    nc.onnx.save(model, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    found = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(found["classes"]) == ["cat", "dog", "ship"]
    assert (found["task"], found["layout"]) == ("classify", "nchw")
    assert json.loads(found["normalization"]) == {"mean": [0.5], "std": [0.25], "images": None}
    assert (proto.ir_version, proto.opset_import[0].version) == (8, 18)
    batch, *sizes = proto.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param == "batch"
    assert [size.dim_value for size in sizes] == [1, 28, 28]
    assert proto.graph.output[0].name == "dense_3"


def test_bad_options_and_layers_are_one_line(tmp_path):
    x = nc.Input((4,))
    square = nc.custom_activation("square", lambda x: x * x, lambda dy, x: 2 * x * dy)
    cases = [
        (nc.Model(x, square(name="own")(x)), {}, 'Square "own" has no counterpart in ONNX'),
        (nc.Model(x, nc.ReLU()(x)), {"opset": 14}, "opset=14: use a version from 15 to 22"),
        (nc.Model(x, nc.ReLU()(x)), {"layout": "nwhc"}, 'layout=\'nwhc\': choose "nchw" or "nhwc"'),
        (nc.Model(x, nc.ReLU()(x)), {"raw_images": True}, "raw_images is for models with one input, an image"),
    ]
    for model, options, message in cases:
        with pytest.raises(nc.NumbacnnError) as error:
            nc.onnx.save(model, tmp_path / "m.onnx", **options)
        assert str(error.value) == message
    assert not (tmp_path / "m.onnx").exists()


def test_without_onnx_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(nc.NumbacnnError, match=r"needs onnx: pip install 'numbacnn\[onnx\]'"):
        nc.onnx.save(nc.models.lenet5(), tmp_path / "m.onnx")


def test_the_command(tmp_path):
    nc.models.lenet5().save(tmp_path / "m.safetensors")
    arguments = ("export", tmp_path / "m.safetensors", tmp_path / "m.onnx", "--raw-images", "--opset", 17)
    done = numbacnn(*arguments)
    assert done.code == 0
    assert done.out == f"{tmp_path / 'm.onnx'}: opset 17, nchw, images 28×28×1, 0.2 MiB\n"
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 17
    rejected("must end in .onnx", "export", tmp_path / "m.safetensors", tmp_path / "m2.safetensors", code=2)
