"""Weights from a state dict: layouts are permuted; a mismatch is named, and then nothing is written."""

import time

import numpy as np
import pytest
from safetensors.numpy import save_file

import numbacnn as nc
from numbacnn.engine.graph import Graph
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.saving.pretrained import state_dict_shapes


def network(seed=0, classes=4):
    """One of each layer whose layout differs, and a dense layer after a flattened image, with layers between."""
    x = nc.Input((4, 6, 3))
    h = nc.Conv2D(8, 3, padding=1, groups=1, name="conv")(x)
    h = nc.DepthwiseConv2D(3, padding=1, name="each")(h)
    h = nc.Conv2DTranspose(5, (2, 3), stride=2, name="up")(h)
    h = nc.BatchNorm(name="norm")(h)
    h = nc.ReLU()(nc.BatchNorm(name="flat_norm")(nc.Flatten()(h)))
    h = nc.Dense(6, name="fc1")(h)
    return nc.Model(x, nc.Dense(classes, name="fc2")(h), seed=seed)


def randomized(model, rng):
    arrays = {**model.parameters, **model.state}
    model.set_parameters({name: rng.standard_normal(array.shape) for name, array in arrays.items()})
    return model


def state_dict(model):
    """The state dict as PyTorch would save it, by hand."""
    arrays = {name: np.array(array) for name, array in {**model.parameters, **model.state}.items()}
    h, w, c = model.graph.nodes[3].shape
    for name in ("conv.weight", "each.weight", "up.weight"):
        arrays[name] = arrays[name].transpose(3, 2, 0, 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        arrays[f"flat_norm.{name}"] = arrays[f"flat_norm.{name}"].reshape(h, w, c).transpose(2, 0, 1).ravel()
    arrays["fc1.weight"] = arrays["fc1.weight"].reshape(h, w, c, 6).transpose(3, 2, 0, 1).reshape(6, -1)
    arrays["fc2.weight"] = arrays["fc2.weight"].T
    arrays["norm.num_batches_tracked"] = np.array(7, np.int64)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def assert_same(found, expected):
    for name, array in {**expected.parameters, **expected.state}.items():
        np.testing.assert_array_equal({**found.parameters, **found.state}[name], array, name)


@pytest.fixture
def source(rng):
    return randomized(network(), rng)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


def test_a_state_dict_loads_by_name_with_its_layouts_permuted(source, path):
    save_file(state_dict(source), path)
    model = network(seed=1)
    report = model.load_weights(path)
    assert_same(model, source)
    assert set(report.loaded) == {*source.parameters, *source.state}
    assert not report.missing
    assert not report.unexpected


def test_reading_in_blocks_of_rows_changes_nothing(source, path, monkeypatch):
    from numbacnn.saving import pretrained

    monkeypatch.setattr(pretrained, "BLOCK_FLOATS", 1)
    monkeypatch.setattr(pretrained, "MIN_ROWS", 2)
    save_file(state_dict(source), path)
    model = network(seed=1)
    model.load_weights(path)
    assert_same(model, source)


def test_loading_reaches_executors_that_hold_views(source, path, rng):
    """The arrays are written, not replaced."""
    save_file(state_dict(source), path)
    model = network(seed=1)
    x = rng.standard_normal((2, 4, 6, 3)).astype(np.float32)
    model.forward(x)
    model.load_weights(path)
    np.testing.assert_array_equal(model.forward(x), source.forward(x))


def test_a_model_file_loads_without_permutations(source, path):
    source.save(path)
    model = network(seed=1)
    model.load_weights(path)
    assert_same(model, source)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_precisions_are_cast(source, path, dtype):
    save_file({name: array.astype(dtype) for name, array in state_dict(source).items()}, path)
    model = network(seed=1)
    model.load_weights(path)
    expected = source.parameters["fc2.weight"].astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(model.parameters["fc2.weight"], expected)


def changed(arrays):
    """Two missing, two unexpected, two mismatched: one in shape, one in type."""
    del arrays["conv.bias"], arrays["norm.running_mean"]
    arrays |= {"head.weight": np.zeros(3, np.float32), "head.bias": np.zeros(3, np.float32)}
    arrays["fc2.weight"] = arrays["fc2.weight"].T.copy()
    arrays["fc2.bias"] = arrays["fc2.bias"].astype(np.int32)
    return arrays


def test_mismatches_are_named_in_one_line_and_nothing_is_written(source, path):
    save_file(changed(state_dict(source)), path)
    model = network(seed=1)
    with pytest.raises(ModelFileError) as caught:
        model.load_weights(path)
    assert str(caught.value) == (
        f'{path}: missing "conv.bias", "norm.running_mean"; unexpected "head.bias", "head.weight"; '
        'mismatched "fc2.weight" is F32 (6, 4), not F32 (4, 6), "fc2.bias" is I32 (4,), not F32 (4,); '
        "convert to float32, as by tensor.float() in PyTorch: only F32, F16, F64 are read"
    )
    assert_same(model, network(seed=1))


def test_strict_false_writes_what_fits_and_leaves_the_rest(source, path):
    save_file(changed(state_dict(source)), path)
    model, other = network(seed=1), network(seed=1)
    report = model.load_weights(path, strict=False)
    assert report.missing == ("conv.bias", "norm.running_mean")
    assert set(report.unexpected) == {"head.weight", "head.bias"}
    assert report.mismatched == ("fc2.weight", "fc2.bias")
    np.testing.assert_array_equal(model.parameters["fc1.weight"], source.parameters["fc1.weight"])
    np.testing.assert_array_equal(model.parameters["fc2.weight"], other.parameters["fc2.weight"])


def test_a_new_head_keeps_its_initial_values(source, path):
    """Transfer: another number of classes."""
    save_file(state_dict(source), path)
    model = network(seed=1, classes=9)
    assert model.load_weights(path, strict=False).mismatched == ("fc2.weight", "fc2.bias")
    np.testing.assert_array_equal(model.parameters["fc2.weight"], network(1, 9).parameters["fc2.weight"])


def test_long_lists_are_truncated_in_errors(source, path):
    arrays = state_dict(source) | {f"extra.{i}": np.zeros(1, np.float32) for i in range(12)}
    save_file(arrays, path)
    with pytest.raises(ModelFileError, match=r'unexpected "extra.0", "extra.1", .* and 7 more$'):
        network().load_weights(path)


def test_ignored_patterns_are_skipped(source, path):
    save_file(state_dict(source) | {"aux1.fc": np.zeros(1, np.float32)}, path)
    network().load_weights(path, ignore=["aux*"])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip, as torch.save writes", b"\xff" * 64])
def test_other_files_are_rejected(path, content):
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"not a safetensors file, or damaged: .*safetensors.torch.save_file"):
        network().load_weights(path)


def test_missing_files_no_matching_tensors_and_checkpoints_are_rejected(source, path):
    with pytest.raises(ModelFileError, match="no such file"):
        network().load_weights(path)
    save_file({"other": np.zeros(1, np.float32)}, path)
    with pytest.raises(ModelFileError, match="none of its tensors has the name, shape and type of a parameter"):
        network().load_weights(path, strict=False)
    save_file(state_dict(source), path, {"format": "numbacnn-checkpoint"})
    with pytest.raises(ModelFileError, match=r"a training checkpoint; use the run's model.safetensors"):
        network().load_weights(path)


def test_zoo_models_load_a_file_given_as_weights(path):
    model = nc.models.lenet5(seed=3)
    model.save(path)
    np.testing.assert_array_equal(
        nc.models.lenet5(weights=path).parameters["dense_1.weight"], model.parameters["dense_1.weight"]
    )
    with pytest.raises(ModelFileError, match=r'missing "features.0.weight", .* and 17 more; unexpected "conv'):
        nc.models.vgg11(weights=path)


def test_googlenet_without_auxiliary_heads_skips_their_weights(path):
    options = {"input_shape": (32, 32, 3), "classes": 3}
    nc.models.googlenet(**options, seed=5).save(path)
    model = nc.models.googlenet(**options, weights=path, auxiliary=False)
    assert not any(name.startswith("aux") for name in model.parameters)
    with pytest.raises(ModelFileError, match='unexpected "aux1'):
        nc.models.googlenet(**options, auxiliary=False).load_weights(path)


def test_initial_values_depend_on_the_seed_not_on_the_block_size():
    """Parameters are drawn at first use, in blocks."""
    from numbacnn.layers.initializers import CHUNK, he_normal

    shape = (1, CHUNK + 3)
    whole = np.random.default_rng(2).standard_normal(shape[1]) * np.sqrt(2)
    np.testing.assert_array_equal(he_normal(shape, np.random.default_rng(2))[0], whole.astype(np.float32))
    with pytest.raises(ArgumentError):
        nc.models.lenet5(seed=1).set_parameters({"conv2d_1.bias": np.zeros(5)})


def test_a_long_chain_is_compared_in_linear_time():
    x = start = nc.Input((2, 2, 1))
    x = nc.Flatten()(x)
    for _ in range(30_000):
        x = nc.ReLU()(x)
    graph = Graph([start], [nc.Dense(3)(x)])
    before = time.process_time()
    assert state_dict_shapes(graph) == {"dense_1.weight": (3, 4), "dense_1.bias": (3,)}
    assert time.process_time() - before < 5  # a search for each layer took minutes
