"""Imported networks compute what the file says: our own exports with the same bits, PyTorch's, and hand-made graphs."""

import numpy as np
import pytest
from architectures import each_architecture
from cases import OPS
from command_line import numbacnn
from engine import assert_close, generator_of, one_layer, randomize
from graphs import several_inputs_and_outputs

import numbacnn as nc
from numbacnn.engine import limits

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from onnx_graphs import F, graph_of, loaded, ops_of  # noqa: E402

SMALL = {"lenet5": (28, 28, 1), "simple_cnn": (28, 28, 1), "alexnet": (63, 63, 3), "unet": (16, 16, 1)}
FAST = ("lenet5", "simple_cnn", "resnet20", "unet_small", "grid_detector", "mobilenet_v2")
OPTIONS = ({}, {"layout": "nhwc", "opset": 15}, {"opset": 22})


def round_trip(path, model, **options):
    nc.onnx.save(model, path, **options)
    return nc.load(path)


@pytest.mark.parametrize("op", OPS)
def test_every_layer_comes_back(op, tmp_path):
    for case in [*OPS[op].picked, *OPS[op].drawn()[:5]]:
        model, xs = one_layer(case), case.inputs()
        for options in OPTIONS:
            found = round_trip(tmp_path / "m.onnx", model, **options)
            y = found.forward(xs if len(xs) > 1 else xs[0])
            assert_close(y, model.forward(xs)[0], f"{case} {options}")


@each_architecture(FAST)
def test_every_architecture_comes_back_with_the_same_bits(name, tmp_path):
    model = nc.models.make(name, input_shape=SMALL.get(name, (32, 32, 3)), classes=5)
    randomize(model, generator_of(name))
    images = generator_of(name).standard_normal((2, *model.input_shape)).astype(np.float32)
    found = round_trip(tmp_path / "m.onnx", model)
    np.testing.assert_array_equal(found.forward(images), model.forward(images))
    weights = {name: array for name, array in model.parameters.items() if name in found.parameters}
    assert len(weights) == len(found.parameters)  # all have their names
    for name, array in weights.items():
        np.testing.assert_array_equal(found.parameters[name], array)


def test_several_inputs_and_outputs(tmp_path):
    model = several_inputs_and_outputs()
    xs = [generator_of("several").standard_normal((3, *shape)).astype(np.float32) for shape in model.graph.input_shapes]
    found = round_trip(tmp_path / "m.onnx", model)
    for y, expected in zip(found.forward(xs), model.forward(xs), strict=True):
        np.testing.assert_array_equal(y, expected)


def test_classes_task_and_raw_images_come_back(tmp_path):
    model = nc.models.simple_cnn(input_shape=(12, 12, 3), classes=4)
    model.classes, model.task = ("a", "b", "c", "d"), "classify"
    model.normalization = nc.data.normalization.Normalization((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    found = round_trip(tmp_path / "m.onnx", model)
    assert (found.classes, found.task, found.normalization) == (model.classes, model.task, model.normalization)
    images = generator_of("raw").integers(0, 256, (3, 12, 12, 3), np.uint8)
    raw = round_trip(tmp_path / "m.onnx", model, raw_images=True, probabilities=True)
    assert_close(raw.predict(images), model.predict(images), "raw images")


def test_forced_algorithms_come_back(tmp_path):
    model = nc.Sequential([nc.Conv2D(8, 3, algorithm="winograd2"), nc.Conv2D(8, 3)], (12, 12, 8))
    found = round_trip(tmp_path / "m.onnx", model)
    assert [node.layer.algorithm for node in found.graph.nodes] == ["winograd2", "auto"]


def test_commands_take_a_file(tmp_path):
    nc.onnx.save(nc.models.lenet5(), tmp_path / "m.onnx")
    done = numbacnn("summary", tmp_path / "m.onnx")
    assert done.code == 0
    assert done.out.splitlines()[-1] == numbacnn("summary", "lenet5").out.splitlines()[-1]


def test_train_starts_from_the_weights_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = nc.models.lenet5(classes=7, seed=5)
    nc.onnx.save(model, "m.onnx")
    arguments = ("--data", "digits", "--model", "lenet5", "--epochs", 1, "--classes", 10, "--freeze", "conv2d_*")
    done = numbacnn("train", *arguments, "--weights", "m.onnx", "--out", "run")
    assert done.code == 0, done.err
    found = nc.load("run/model.safetensors")
    np.testing.assert_array_equal(found.parameters["conv2d_1.weight"], model.parameters["conv2d_1.weight"])
    rejected = numbacnn("train", "--data", "digits", "--model", "deep_cnn", "--weights", "m.onnx", "--out", "other")
    assert rejected.code == 1
    assert rejected.err.startswith('error: m.onnx: missing "pair1.conv1.weight"')


# -- graphs of ONNX's own helpers -------------------------------------------------------------------------------------


ACTIVATIONS = {
    "hardswish": [("Add", "x three", "a", {}), ("Clip", "a zero six", "b", {}), ("Div", "b six", "c", {}),
                  ("Mul", "x c", "y", {})],
    "hardswish, divided last": [("Add", "three x", "a", {}), ("Clip", "a zero six", "b", {}),
                                ("Mul", "x b", "c", {}), ("Div", "c six", "y", {})],
    "hardsigmoid": [("Add", "x three", "a", {}), ("Clip", "a zero six", "b", {}), ("Div", "b six", "y", {})],
    "silu": [("Sigmoid", "x", "a", {}), ("Mul", "a x", "y", {})],
    "gelu": [("Div", "x root", "a", {}), ("Erf", "a", "b", {}), ("Add", "b one", "c", {}), ("Mul", "x c", "d", {}),
             ("Mul", "d half", "y", {})],
    "gelu, halved first": [("Mul", "x half", "a", {}), ("Div", "x root", "b", {}), ("Erf", "b", "c", {}),
                           ("Add", "c one", "d", {}), ("Mul", "a d", "y", {})],
    "sigmoid": [("Neg", "x", "a", {}), ("Exp", "a", "b", {}), ("Add", "one b", "c", {}), ("Reciprocal", "c", "y", {})],
    "relu": [("Max", "x zero", "y", {})],
    "relu6": [("Clip", "x zero six", "y", {})],
}  # fmt: skip
NUMBERS = {"zero": F(0), "one": F(1), "three": F(3), "six": F(6), "half": F(0.5), "root": F(np.sqrt(2))}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_compositions_become_our_activations(name, tmp_path):
    assert ops_of(loaded(tmp_path / "m.onnx", graph_of(ACTIVATIONS[name], (3, 4, 5), NUMBERS))) == [name.split(",")[0]]


def test_channel_shuffle_and_squeeze_excitation_in_numpy(tmp_path):
    nodes = [
        ("Reshape", "x split", "a", {}),
        ("Transpose", "a", "b", {"perm": (0, 2, 1, 3, 4)}),
        ("Reshape", "b whole", "shuffled", {}),
        ("GlobalAveragePool", "shuffled", "m", {}),
        ("Conv", "m w", "g", {}),
        ("Sigmoid", "g", "s", {}),
        ("Mul", "shuffled s", "y", {}),
    ]
    w = generator_of("w").standard_normal((6, 6, 1, 1)).astype(F)
    arrays = {"split": np.array([0, 2, 3, 4, 5]), "whole": np.array([0, 6, 4, 5]), "w": w}
    model = loaded(tmp_path / "m.onnx", graph_of(nodes, (6, 4, 5), arrays))
    x = generator_of("x").standard_normal((2, 6, 4, 5)).astype(F)
    shuffled = x.reshape(2, 2, 3, 4, 5).swapaxes(1, 2).reshape(2, 6, 4, 5)
    gate = 1 / (1 + np.exp(-np.einsum("nchw,kc->nk", shuffled, w[..., 0, 0]) / 20))
    y = model.forward(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert_close(y, shuffled * gate[:, :, None, None], "shuffle and gate")


def test_numbers_for_each_channel_become_part_of_the_layer_before(tmp_path):
    """Caffe's scale after a batch normalization, and a bias added to a convolution."""
    nodes = [
        ("Conv", "x w", "a", {}),
        ("Add", "a b", "c", {}),
        ("BatchNormalization", "c s s m s", "d", {}),
        ("Mul", "d k", "e", {}),
        ("Add", "e b", "y", {}),
    ]
    generator = generator_of("scale")
    arrays = {
        "w": generator.standard_normal((4, 3, 1, 1)).astype(F),
        "b": generator.standard_normal((4, 1, 1)).astype(F),
        "k": generator.standard_normal((1, 4, 1, 1)).astype(F),
        "s": generator.uniform(1, 2, 4).astype(F),
        "m": generator.standard_normal(4).astype(F),
    }
    model = loaded(tmp_path / "m.onnx", graph_of(nodes, (3, 2, 5), arrays))
    assert ops_of(model) == ["conv2d", "batch_norm"]
    x = generator.standard_normal((2, 3, 2, 5)).astype(F)
    y = np.einsum("nchw,kc->nkhw", x, arrays["w"][..., 0, 0]) + arrays["b"]
    s, m = (arrays[name].reshape(4, 1, 1) for name in "sm")
    y = ((y - m) / np.sqrt(s + 1e-5) * s + s) * arrays["k"] + arrays["b"]
    assert_close(model.forward(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), y, "folded")


def test_transposes_and_flattened_images_vanish(tmp_path):
    nodes = [
        ("Transpose", "x", "a", {"perm": (0, 2, 3, 1)}),
        ("Relu", "a", "b", {}),
        ("Transpose", "b", "c", {"perm": (0, 3, 1, 2)}),
        ("Flatten", "c", "d", {}),
        ("Gemm", "d w v", "y", {"transB": 1}),
    ]
    generator = generator_of("flat")
    arrays = {"w": generator.standard_normal((7, 60)).astype(F), "v": generator.standard_normal(7).astype(F)}
    model = loaded(tmp_path / "m.onnx", graph_of(nodes, (3, 4, 5), arrays))
    assert ops_of(model) == ["relu", "flatten", "dense"]
    x = generator.standard_normal((2, 3, 4, 5)).astype(F)
    expected = np.maximum(x, 0).reshape(2, 60) @ arrays["w"].T + arrays["v"]
    assert_close(model.forward(x.transpose(0, 2, 3, 1)), expected, "dense")


def test_imported_networks_train(tmp_path):
    model = round_trip(tmp_path / "m.onnx", nc.models.simple_cnn(input_shape=(12, 12, 1), classes=4))
    images = generator_of("x").standard_normal((8, 12, 12, 1)).astype(F)
    optimizer = nc.SGD(0.05)
    losses = [model.train_step(images, np.arange(8) % 4, optimizer) for _ in range(20)]
    assert losses[-1] < losses[0]


# -- what is not supported, or damaged --------------------------------------------------------------------------------


def test_an_operator_without_counterpart_is_named(tmp_path):
    for nodes, message in [
        ([("GridSample", "x x", "y", {})], r'm\.onnx: GridSample "y": numbacnn has no layer for it'),
        ([("NonZero", "x", "y", {})], r'NonZero "y": numbacnn has no layer for it'),
        ([("Relu", "z", "y", {})], r'Relu "y" reads "z", which nothing before it computes'),
        ([("Relu", "x", "y", {}), ("Relu", "x", "y", {})], r'"y" is computed twice'),
        ([("Transpose", "x", "y", {"perm": (1, 0, 2, 3)})], r"which moves the batch"),
    ]:  # fmt: skip
        with pytest.raises(nc.ModelFileError, match=message):
            loaded(tmp_path / "m.onnx", graph_of(nodes, (3, 4, 5)))


def test_open_sizes_are_given_by_shapes(tmp_path):
    onnx.save(graph_of([("GlobalAveragePool", "x", "y", {})], (3, "h", "w")), tmp_path / "m.onnx")
    with pytest.raises(nc.ModelFileError, match=r"only the batch size may be unknown: nc\.onnx\.load\(path, shapes="):
        nc.onnx.load(tmp_path / "m.onnx")
    assert nc.onnx.load(tmp_path / "m.onnx", shapes={"x": (3, 8, 9)}).input_shape == (8, 9, 3)


def test_data_outside_the_folder_is_not_read(tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    weight = generator_of("w").standard_normal((4, 60)).astype(F)
    model = graph_of([("Flatten", "x", "a", {}), ("Gemm", "a w", "y", {"transB": 1})], (3, 4, 5), {"w": weight})
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert nc.onnx.load(folder / "m.onnx").parameters["y.weight"].shape == (60, 4)
    (folder / "w.bin").rename(tmp_path / "w.bin")
    proto = onnx.load(folder / "m.onnx", load_external_data=False)
    for location in ("../w.bin", str(tmp_path / "w.bin"), "missing.bin", ""):
        proto.graph.initializer[0].external_data[0].value = location
        (folder / "m.onnx").write_bytes(proto.SerializeToString())
        with pytest.raises(
            nc.ModelFileError, match=r"only files in the folder of the model|does not have the 960 bytes"
        ):
            nc.onnx.load(folder / "m.onnx")


def test_absurd_files_are_rejected_in_one_line(tmp_path):
    huge = {"n": np.array([2**40])}
    cases = [
        graph_of([("Relu", "x", "y", {})], (2**20, 2**20, 2**20)),
        graph_of([("ConstantOfShape", "n", "c", {}), ("Add", "x c", "y", {})], (3, 4, 5), huge),
        graph_of([("Expand", "n n", "c", {}), ("Add", "x c", "y", {})], (3, 4, 5), huge),
        graph_of([("Relu", f"v{i}", f"v{i + 1}", {}) for i in range(10_001)], (3,), outputs=("v9",)),
        graph_of([("Upsample", "x s", "y", {})], (3, 4, 5), {"s": np.array([1, 1, 1e9, 1e9], F)}, opset=9),
        graph_of([("ArgMax", "x", "a", {"axis": 1}), ("Identity", "a", "a", {})], (3,), outputs=("a",)),
        graph_of([("ArgMax", "x", "a", {"axis": 1}), ("Identity", "a", "b", {}), ("Identity", "b", "a", {})], (3,)),
        onnx.ModelProto(),
    ]
    for model in cases:
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(nc.ModelFileError) as error:
            nc.onnx.load(tmp_path / "m.onnx")
        assert "\n" not in str(error.value)
    for content in (b"", b"not a model", b"\x08\x08" * 50):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(nc.ModelFileError):
            nc.onnx.load(tmp_path / "m.onnx")


def test_small_files_that_need_much_are_rejected_in_one_line(tmp_path):
    """The limits of model files: here 64 images of 4096×4096 from one of 64×64."""
    nodes = [("Resize", "x  s", f"v{i}", {"mode": "nearest"}) for i in range(64)]
    nodes.append(("Sum", " ".join(f"v{i}" for i in range(64)), "y", {}))
    proto = graph_of(nodes, (1, 64, 64), {"s": np.array([1, 1, 64, 64], F)})
    for node in proto.graph.node[:-1]:
        node.input[:] = ["x", "", "s"]
    with pytest.raises(
        nc.ModelFileError, match=r"m\.onnx: the layers up to .* numbers for one image, more than"
    ) as error:
        loaded(tmp_path / "m.onnx", proto)
    assert "\n" not in str(error.value)
    with pytest.raises(nc.ModelFileError, match=r"numbers for one image, more than"):
        nc.load(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("nodes", "arrays"),
    [
        ([("Gemm", "x w", "y", {"alpha": 3e38})], {"w": np.full((3, 2), 2, F)}),
        ([("Gemm", "x w", "y", {"alpha": np.inf})], {"w": np.zeros((3, 2), F)}),
        ([("Gemm", "x w c", "y", {"beta": 3e38})], {"w": np.ones((3, 2), F), "c": np.full(2, 2, F)}),
        ([("Mul", "x c", "y", {})], {"c": np.full(1, 1e300)}),
        ([("HardSigmoid", "x", "y", {"alpha": 3e38})], {}),
        ([("Celu", "x", "y", {"alpha": 0.0})], {}),
        ([("LpPool", "x", "y", {"kernel_shape": [2, 2], "p": 0})], {}),
        ([("Resize", "x  s", "y", {"mode": "linear"})], {"s": np.array([1, 1, np.nan, 1], F)}),
    ],
    ids=lambda value: value[0][0] if isinstance(value, list) else "",
)
def test_numbers_out_of_range_are_rejected_with_their_operator(nodes, arrays, tmp_path):
    kind = nodes[0][0]
    proto = graph_of(nodes, (3,) if kind == "Gemm" else (3, 4, 4), arrays)
    if kind == "Resize":
        proto.graph.node[0].input[:] = ["x", "", "s"]
    with pytest.raises(nc.ModelFileError, match=f'{kind} "y": its numbers are out of range: '):
        loaded(tmp_path / "m.onnx", proto)


def test_limits_can_be_waived(tmp_path, monkeypatch):
    onnx.save(graph_of([("Relu", "x", "y", {})], (3, 4, 5)), tmp_path / "m.onnx")
    monkeypatch.setattr(limits, "MAX_VALUES", 100)
    with pytest.raises(nc.ModelFileError, match=r"need 120 numbers for one image, more than 100; .* limits=False"):
        nc.onnx.load(tmp_path / "m.onnx")
    assert nc.onnx.load(tmp_path / "m.onnx", limits=False).input_shape == (4, 5, 3)


def test_one_tensor_under_two_names_is_two_outputs(tmp_path):
    nodes = [("Relu", "x", "a", {}), ("Identity", "a", "b", {}), ("Transpose", "a", "c", {"perm": (0, 2, 3, 1)})]
    model = loaded(tmp_path / "m.onnx", graph_of(nodes, (3, 4, 5), outputs=("a", "b", "c")))
    x = generator_of("x").standard_normal((2, 4, 5, 3)).astype(F)
    for y in model.forward(x):
        np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_mutated_files_are_read_or_rejected(tmp_path):
    nc.onnx.save(nc.models.lenet5(input_shape=(12, 12, 1)), tmp_path / "m.onnx")
    content, generator = (tmp_path / "m.onnx").read_bytes(), generator_of("mutated")
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(generator.integers(1, 6)):
            changed[generator.integers(len(changed) if generator.random() < 0.2 else 2500)] = generator.integers(256)
        (tmp_path / "m.onnx").write_bytes(
            changed[: generator.integers(len(changed))] if generator.random() < 0.1 else changed
        )
        try:
            message = f"read: {nc.onnx.load(tmp_path / 'm.onnx').input_shape}"
        except nc.ModelFileError as error:
            message = str(error)
        assert "\n" not in message
