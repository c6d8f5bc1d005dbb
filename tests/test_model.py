"""Models: parameters, their initial values, and running."""

import io
import math

import numpy as np
import pytest
from engine import run
from graphs import arrays, several_inputs_and_outputs

import numbacnn as nc
from numbacnn.data.normalization import Normalization
from numbacnn.errors import ArgumentError, NumbacnnError


def small(seed=0):
    return nc.Sequential([nc.Conv2D(4, 3, name="stem"), nc.ReLU(), nc.Flatten(), nc.Dense(3)], (5, 6, 2), seed=seed)


def images(rng, n=4):
    return rng.standard_normal((n, 5, 6, 2)).astype(np.float32)


def values(model):
    return {name: array.copy() for name, array in model.parameters.items()}


def assert_same_parameters(model, expected):
    assert list(model.parameters) == list(expected)
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(array, expected[name], name)


# -- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_and_gradients_are_read_only_mappings_of_float32(rng):
    model = small()
    model.forward(images(rng), training=True)
    model.backward(np.ones((4, 3)))
    for mapping in (model.parameters, model.gradients):
        assert list(mapping) == ["stem.weight", "stem.bias", "dense_1.weight", "dense_1.bias"]
        with pytest.raises(TypeError):
            mapping["stem.bias"] = np.zeros(4)
        for array in mapping.values():
            assert array.dtype == np.float32
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
    assert dict(model.state) == {}


def test_set_parameters_writes_by_name_and_reaches_the_next_forward(rng):
    model, x = small(), images(rng)
    before = values(model)
    model.set_parameters({"dense_1.weight": np.zeros((48, 3)), "dense_1.bias": [1, 2, 3]})
    np.testing.assert_array_equal(model.forward(x), np.tile(np.array([[1, 2, 3]], np.float32), (4, 1)))
    np.testing.assert_array_equal(model.parameters["stem.weight"], before["stem.weight"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stem.wieght": np.zeros((3, 3, 2, 4))}, 'no parameter is called "stem.wieght"; there are stem.weight'),
        ({"dense_1.bias": np.zeros(4)}, r'"dense_1.bias" has shape \(3,\), not \(4,\)'),
        ({"dense_1.bias": np.zeros((1, 3))}, r'"dense_1.bias" has shape \(3,\), not \(1, 3\)'),
    ],
)
def test_set_parameters_writes_nothing_if_a_name_or_shape_is_wrong(wrong, message):
    model = small()
    before = values(model)
    with pytest.raises(ArgumentError, match=message):
        model.set_parameters({"stem.bias": np.ones(4)} | wrong)
    assert_same_parameters(model, before)


def test_set_parameters_writes_nothing_if_a_type_is_wrong():
    model = small()
    before = values(model)
    with pytest.raises(ArgumentError):
        model.set_parameters({"stem.bias": np.ones(4), "dense_1.bias": np.ones(3, complex)})
    assert_same_parameters(model, before)


def test_initial_values_are_he_before_relu_even_through_a_pool_and_glorot_elsewhere():
    layers = [
        nc.Conv2D(64, 3, padding=1), nc.ReLU(),
        nc.Conv2D(64, 3, padding=1), nc.MaxPool2D(2), nc.ReLU(),
        nc.Conv2D(64, 3, padding=1), nc.Tanh(), nc.ReLU(),
        nc.Conv2D(64, 3, padding=1, initializer="zeros"), nc.Flatten(),
        nc.Dense(200), nc.Sigmoid(), nc.Dense(100, initializer="he_uniform"),
    ]  # fmt: skip
    model = nc.Sequential(layers, (8, 8, 32))
    # fan_in and fan_out include the window: 9·channels
    deviations = {
        "conv2d_1": np.sqrt(2 / (9 * 32)),
        "conv2d_2": np.sqrt(2 / (9 * 64)),
        "conv2d_3": np.sqrt(2 / (9 * 64 + 9 * 64)),
        "conv2d_4": 0,
        "dense_1": np.sqrt(2 / (1024 + 200)),
        "dense_2": np.sqrt(2 / 200),
    }
    for name, deviation in deviations.items():
        weight = model.parameters[f"{name}.weight"]
        assert weight.std() == pytest.approx(deviation, rel=0.03), name
        assert abs(weight.mean()) <= 0.05 * deviation, name
        assert not model.parameters[f"{name}.bias"].any()
    for name in ("conv2d_3", "dense_1"):  # uniform, so bounded by √3 deviations
        assert np.abs(model.parameters[f"{name}.weight"]).max() <= np.sqrt(3) * deviations[name]
    assert np.abs(model.parameters["conv2d_1.weight"]).max() > 3 * deviations["conv2d_1"]


def test_initial_values_depend_on_seed_and_name_alone():
    x = nc.Input((5, 6, 2))
    other = nc.Model(x, nc.Dense(9)(nc.Flatten()(nc.ReLU()(nc.Conv2D(4, 3, name="stem")(nc.Tanh()(x))))), seed=0)
    weight = small().parameters["stem.weight"]
    np.testing.assert_array_equal(other.parameters["stem.weight"], weight)
    assert np.abs(small(seed=1).parameters["stem.weight"] - weight).max() > 0.1


# -- running ----------------------------------------------------------------------------------------------------------


def test_backward_follows_one_training_forward(rng):
    model = small()
    for prepare in (lambda: None, lambda: model.forward(images(rng))):
        prepare()
        with pytest.raises(NumbacnnError, match=r"backward needs a forward\(x, training=True\) before it"):
            model.backward(np.ones((4, 3)))
    model.forward(images(rng), training=True)
    model.forward(images(rng, 9))  # inference in between changes nothing
    model.backward(np.ones((4, 3)))
    with pytest.raises(NumbacnnError, match="backward needs"):
        model.backward(np.ones((4, 3)))


def test_inference_between_forward_and_backward_changes_nothing(rng):
    model, x, dy = small(), images(rng), rng.standard_normal((4, 3))
    model.forward(x, training=True)
    expected = model.backward(dy)
    model.forward(x, training=True)
    model.forward(images(rng, 6))
    np.testing.assert_array_equal(model.backward(dy), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.forward(np.zeros((4, 6, 5, 2))), r"input of shape \(4, 6, 5, 2\); the model needs \(4, 5, 6, 2\)"),
        (lambda m: m.forward(np.zeros((5, 6, 2))), r"the model needs"),
        (lambda m: m.forward(np.zeros((0, 5, 6, 2))), r"the model needs \('N', 5, 6, 2\)"),
        (lambda m: m.forward(3.0), r"input of shape \(\)"),
        (lambda m: (m.forward(np.zeros((4, 5, 6, 2)), training=True), m.backward(np.zeros((3, 3)))),
         r"gradient of shape \(3, 3\); the model needs \(4, 3\)"),
        (lambda m: m.train_step(np.zeros((4, 5, 6, 2)), [0, 1], nc.SGD()), "2 labels for 4 predictions"),
        (lambda m: m.train_step(np.zeros((4, 5, 6, 2)), [0, 1, 3, 0], nc.SGD()), "from 0 to 3; the model has 3"),
        (lambda m: m.train_step(np.zeros((4, 5, 6, 2)), [0] * 4, nc.SGD(), loss="msee"), "did you mean 'mse'"),
    ],
)  # fmt: skip
def test_wrong_shapes_are_rejected_with_the_expected_one(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(small())


def test_several_inputs_and_outputs_are_lists(rng):
    model = several_inputs_and_outputs()
    xs, dys = arrays(model, 2)
    assert [y.shape for y in model.forward(xs)] == [(2, 6, 6, 3), (2, 5), (2, 5)]
    with pytest.raises(ArgumentError, match="1 inputs for a model of 2"):
        model.forward(xs[:1])
    with pytest.raises(ArgumentError, match=r"input of shape \(1, 4\); the model needs \(2, 4\)"):
        model.forward([xs[0], xs[1][:1]])
    with pytest.raises(ArgumentError, match="this model has several outputs: use forward"):
        model.predict(xs)
    for call in (lambda x: model.evaluate((x, [0, 1])), lambda x: model.fit((x, [0, 1]))):
        with pytest.raises(ArgumentError, match="ndarray for a model with 2 inputs; pass a tuple or a dict of"):
            call(xs[0])
    assert [dx.shape for dx in run(model, xs, dys).dxs] == [x.shape for x in xs]


def test_a_call_of_a_model_is_forward(rng):
    model, x = small(), images(rng)
    np.testing.assert_array_equal(model(x), model.forward(x))
    dy = np.ones_like(model(x, training=True))
    assert model.backward(dy).shape == x.shape


def test_train_step_is_forward_loss_backward_and_update(rng):
    first, second, labels = small(), small(), np.array([0, 2, 1, 1])
    optimizers = [nc.SGD(0.1, momentum=0.9) for _ in range(2)]
    for _ in range(3):
        x = images(rng)
        loss = first.train_step(x, labels, optimizers[0])
        expected, dy = nc.losses.cross_entropy(second.forward(x, training=True), labels)
        second.backward(dy)
        optimizers[1].step(second)
        assert loss == expected
    assert_same_parameters(first, values(second))


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


READERS = {
    "forward": lambda m, x, labels: m.forward(x),
    "backward": lambda m, x, labels: (m.forward(x, training=True), m.backward(frozen(np.ones((4, 3), np.float32)))),
    "train_step": lambda m, x, labels: m.train_step(x, labels, nc.SGD()),
    "fit": lambda m, x, labels: m.fit((x, labels), epochs=1),
    "evaluate": lambda m, x, labels: m.evaluate((x, labels)),
    "predict": lambda m, x, labels: m.predict(x),
    "predict bytes": lambda m, x, labels: m.predict(frozen(x.astype(np.uint8))),
    "set_parameters": lambda m, x, labels: m.set_parameters(small(1).parameters),
    "cross_entropy": lambda m, x, labels: nc.losses.cross_entropy(frozen(x[:, 0, 0]), labels % 2),
    "probabilities": lambda m, x, labels: nc.losses.cross_entropy(frozen(x[:, 0, 0]), frozen(x[:, 0, 0])),
    "mse": lambda m, x, labels: nc.losses.mse(x, x),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_arrays_that_are_only_read_may_be_read_only(read, rng):
    read(small(), frozen(np.abs(images(rng))), frozen(np.array([0, 1, 2, 0])))


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": lambda x: np.stack([x, x], -1)[..., 0],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "big-endian": lambda x: x.astype(">f4"),
    "float64": lambda x: x.astype(np.float64),
}


@pytest.mark.parametrize("change", LAYOUTS.values(), ids=LAYOUTS)
def test_inputs_may_have_any_memory_layout(change, rng):
    model, x = small(), images(rng)
    np.testing.assert_array_equal(model.forward(change(x)), model.forward(x))


def test_unknown_devices_and_precisions_are_rejected():
    with pytest.raises(ArgumentError, match="device='tpu': choose"):
        nc.Sequential([nc.ReLU()], (3,), device="tpu")
    with pytest.raises(ArgumentError, match='precision=\'fp16\': choose "fp32", "tf32" or "bf16"'):
        nc.Sequential([nc.ReLU()], (3,), precision="fp16")
    with pytest.raises(ArgumentError, match='precision "tf32" is for tensor cores: set device="cuda" too'):
        nc.models.lenet5(precision="tf32")


@pytest.mark.parametrize("given", [[[1.0], [1.0, 2.0]], "digits", np.ones((2, 3), np.complex64)])
def test_other_data_than_numbers_is_rejected(given):
    model = nc.Model(x := nc.Input((3,)), nc.Dense(2)(x))
    with pytest.raises(nc.ArgumentError, match="input"):
        model.forward(given)


@pytest.mark.parametrize("make", [lambda: nc.Dense(2.5), lambda: nc.Dense("6"), lambda: nc.Conv2D("6", 3)])
def test_sizes_that_are_not_integers_are_rejected(make):
    with pytest.raises(nc.ArgumentError, match="whole number of at least 1"):
        make()


def test_normalization_with_a_wrong_number_of_channels_is_rejected(tmp_path):
    model = nc.Model(x := nc.Input((4, 4, 3)), nc.Dense(2)(nc.Flatten()(x)))
    model.normalization = Normalization((0.5,), (0.5,))
    with pytest.raises(nc.ArgumentError, match="1 channels for images of 3"):
        model.predict(np.zeros((1, 4, 4, 3), np.uint8))
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(nc.ModelFileError, match="normalization is damaged"):
        nc.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("mean", "std"), [(0.5, 1e-300), (1e300, 1.0), (1e30, 1e-30), (0.5, 0.0), (0.5, math.inf)])
def test_a_normalization_beyond_float32_is_damaged(mean, std):
    given = {"mean": [mean], "std": [std], "images": None}
    with pytest.raises(ValueError, match="normalization is damaged"):
        Normalization.from_dict(given)


def test_a_tensor_listed_twice_is_rejected():
    x = nc.Input((3,))
    h = nc.Dense(2)(x)
    with pytest.raises(nc.ArgumentError, match="twice among the outputs"):
        nc.Model(x, [h, h])
    with pytest.raises(nc.ArgumentError, match="twice among the inputs"):
        nc.Model([x, x], h)


def test_predict_takes_features(rng):
    model = nc.Sequential([nc.Dense(3)], (5,))
    x = rng.standard_normal((4, 5)).astype(np.float32)
    expected = nc.functional.softmax(model.forward(x))
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-6)


def test_gradients_do_not_depend_on_the_batch_planned_for(rng):
    x = rng.standard_normal((64, 20, 20, 3)).astype(np.float32)

    def gradients(first):
        start = nc.Input((20, 20, 3))
        model = nc.Model(start, nc.Conv2D(8, 3)(start))
        for n in (first, 3):
            model.backward(np.ones_like(model.forward(x[:n], training=True)))
        return model.gradients

    small, large = gradients(3), gradients(64)
    for name, value in small.items():
        np.testing.assert_array_equal(value, large[name], err_msg=name)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "gbk"])
def test_a_summary_prints_on_every_stream(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    model = nc.Sequential([nc.Conv2D(2, 3), nc.Flatten(), nc.Dense(3)], (8, 8, 1))
    print(model.summary(), model, sep="\n")
    stream.flush()
    output = stream.buffer.getvalue().decode(encoding)
    assert output.count("conv2d_1") == 3
    assert "?" not in output
