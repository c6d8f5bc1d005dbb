"""State: arrays that are kept with a model but not trained."""

import copy
import pickle

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.saving import format as checkpoint


def net(seed=0):
    layers = [nc.Conv2D(4, 3, bias=False), nc.BatchNorm(name="norm"), nc.ReLU(), nc.Flatten(), nc.Dense(3)]
    return nc.Sequential(layers, (5, 6, 2), seed=seed)


@pytest.fixture
def trained(rng):
    model = net()
    for _ in range(3):
        model.train_step(rng.standard_normal((8, 5, 6, 2)), rng.integers(0, 3, 8), nc.SGD(0.1))
    return model


def test_state_is_a_read_only_mapping_separate_from_the_parameters(trained):
    assert list(trained.state) == ["norm.running_mean", "norm.running_var"]
    assert not trained.state.keys() & (trained.parameters.keys() | trained.gradients.keys())
    assert trained.summary(show=False).parameters == sum(array.size for array in trained.parameters.values())
    with pytest.raises(TypeError):
        trained.state["norm.running_var"] = np.ones(4)
    for array in trained.state.values():
        assert array.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_set_parameters_writes_state_too_or_nothing(trained):
    before = {name: array.copy() for name, array in trained.store.arrays().items()}
    with pytest.raises(nc.ArgumentError, match=r'"norm.running_var" has shape \(4,\), not \(5,\)'):
        trained.set_parameters({"norm.running_mean": np.ones(4), "norm.running_var": np.ones(5)})
    with pytest.raises(nc.ArgumentError, match=r'no parameter is called "norm.running_men"; .*norm.running_mean'):
        trained.set_parameters({"norm.weight": np.ones(4), "norm.running_men": np.ones(4)})
    for name, array in trained.store.arrays().items():
        np.testing.assert_array_equal(array, before[name])
    trained.set_parameters({"norm.weight": np.full(4, 2), "norm.running_mean": np.full(4, 3)})
    np.testing.assert_array_equal(trained.parameters["norm.weight"], 2)
    np.testing.assert_array_equal(trained.state["norm.running_mean"], 3)


def test_training_and_inference_share_state(rng):
    model, x = net(), rng.standard_normal((8, 5, 6, 2)).astype(np.float32)
    before = model.forward(x)
    model.forward(x + 1, training=True)
    assert (model.forward(x) != before).any()
    state = {name: array.copy() for name, array in model.state.items()}
    model.set_parameters({"norm.running_mean": np.zeros(4), "norm.running_var": np.ones(4)})
    np.testing.assert_array_equal(model.forward(x), before)
    model.set_parameters(state)
    assert (model.forward(x) != before).any()


def by_file(model, folder):
    model.save(folder / "m.safetensors")
    return nc.load(folder / "m.safetensors")


@pytest.mark.parametrize(
    "copied",
    [by_file, lambda model, _: copy.deepcopy(model), lambda model, _: pickle.loads(pickle.dumps(model))],
    ids=["file", "deepcopy", "pickle"],
)
def test_copies_have_their_own_state(trained, copied, tmp_path, rng):
    x = rng.standard_normal((4, 5, 6, 2)).astype(np.float32)
    again, expected = copied(trained, tmp_path), trained.forward(x)
    trained.forward(x, training=True)
    np.testing.assert_array_equal(again.forward(x), expected)


def test_files_without_state_are_rejected(trained, tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    trained.save(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys() if name != "norm.running_var"}  # noqa: SIM118
        metadata = file.metadata()
    del metadata["digest"]
    save_file(arrays, tmp_path / "less.safetensors", metadata)
    with pytest.raises(nc.ModelFileError, match=r'"norm.running_var" is missing'):
        nc.load(tmp_path / "less.safetensors")


def test_checkpoints_contain_state(trained, tmp_path):
    checkpoint.save_checkpoint(tmp_path / "c", trained.store.arenas(), {})
    other = net(seed=1)
    _, arrays = checkpoint.read_checkpoint(tmp_path / "c")
    checkpoint.check_fit(tmp_path / "c", arrays, other.store.arenas())
    checkpoint.restore(arrays, other.store.arenas(), other.device)
    for name, array in trained.store.arrays().items():
        np.testing.assert_array_equal(other.store.arrays()[name], array)
