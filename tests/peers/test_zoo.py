"""The zoo against its twins in PyTorch, with the same weights at the native input sizes.

Errors are measured against float64, and may be three times those of PyTorch in float32.
"""

import copy
import inspect
import os
from typing import NamedTuple

import numpy as np
import pytest

import numbacnn as nc

if not os.environ.get("NUMBACNN_REQUIRE_PEERS"):
    pytest.importorskip("torch", reason="PyTorch is not installed; NUMBACNN_REQUIRE_PEERS=1 makes that a failure")
import torch
import zoo_twins
from architectures import HUGE, parameters
from safetensors.torch import save_file

TIMES = 3  # PyTorch's error
JUMP = 0.1  # relative error of gradients if rounding flips a ReLU or moves a maximum; PyTorch's are up to 0.03
BATCH = 2
IMAGES = 16
BATCHES, BATCHES_OF_LARGE, LARGE = 9, 3, 12e9  # a network is large from that many FLOPs per image on
LOSS_WEIGHTS = (1.0, 0.3, 0.3)  # of the outputs of GoogLeNet in training
QUICK = ("lenet5", "simple_cnn", "deep_cnn", "resnet20", "unet_small", "grid_detector")


class Pair(NamedTuple):
    """A network and its twin."""

    ours: nc.Model
    theirs: torch.nn.Module


@pytest.fixture(params=parameters(QUICK, (*HUGE, "googlenet", "mobilenet_v2", "vgg11")))  # slow at their native sizes
def pair(request, tmp_path):
    """A network and its twin with the same random weights and statistics, passed through a file, without dropout."""
    name = request.param
    torch.manual_seed(0)
    theirs = zoo_twins.TWINS[name]()
    generator = torch.Generator().manual_seed(1)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                torch.nn.init.uniform_(values, low, high, generator=generator)
    save_file(theirs.state_dict(), tmp_path / "twin.safetensors")
    function = nc.models.MODELS[name]
    off = {p: 0.0 for p in inspect.signature(function).parameters if "dropout" in p}
    return Pair(function(weights=tmp_path / "twin.safetensors", **off), theirs)


def images(model, batch):
    return np.random.default_rng(2).standard_normal((batch, *model.input_shape)).astype(np.float32)


def channels_first(x, dtype):
    return torch.tensor(np.moveaxis(x, 3, 1), dtype=dtype)


def off_by(found, exact):
    return np.linalg.norm(found.astype(np.float64) - exact) / np.linalg.norm(exact)


def flat(outputs):
    """Concatenate one or several outputs to a vector, with channels last."""
    outputs = outputs if isinstance(outputs, list) else [outputs]
    arrays = [y.detach().numpy() if isinstance(y, torch.Tensor) else y for y in outputs]
    return np.concatenate([np.moveaxis(y, 1, -1).ravel() if y.ndim == 4 else y.ravel() for y in arrays])


def test_inference_is_as_exact_as_pytorch(pair):
    """Small networks get several images, as errors of ten numbers are too few to compare."""
    x = images(pair.ours, 1 if flops(pair.ours) >= LARGE else IMAGES)
    y = pair.ours.forward(x)
    with torch.no_grad():
        single = flat(pair.theirs.eval()(channels_first(x, torch.float32)))
        exact = flat(pair.theirs.double()(channels_first(x, torch.float64)))
    ours, theirs = off_by(y.ravel(), exact), off_by(single, exact)
    print(f"output: {ours:.2e}, PyTorch {theirs:.2e}")
    assert ours <= TIMES * theirs


def test_gradients_of_a_training_step_are_as_exact_as_pytorchs(pair):
    """Compare the gradients of all parameters as one vector, and the running statistics.

    The first batch, repeated after all others, must give the same bits.

    Gradients jump if rounding flips a ReLU or moves a maximum: by up to 1e-2 for one in a million, while rounding
    itself is 1e-6; in PyTorch as here, but for different batches. A mean over batches would compare luck. A real error
    shows in every batch, so our best batch is compared with PyTorch's median, and no batch may be further off than a
    jump. Statistics do not jump, and are compared by their root mean square.
    """
    peer, exact_peer = pair.theirs, copy.deepcopy(pair.theirs).double()
    errors: dict[str, list[list[float]]] = {}
    first: dict[str, np.ndarray] = {}
    for seed in range(BATCHES_OF_LARGE if flops(pair.ours) >= LARGE else BATCHES):
        x, labels = training_batch(pair.ours, seed)
        found, single, exact = (
            our_gradients(pair.ours, x, labels),
            peer_gradients(peer, x, labels),
            peer_gradients(exact_peer, x, labels),
        )
        assert found.keys() == exact.keys()
        if seed == 0:
            first = {name: array.copy() for name, array in found.items()}  # the next batch overwrites these
        for what, names in kinds(pair.ours, exact).items():
            total = joined(exact, names)
            off = [off_by(joined(each, names), total) for each in (found, single)]
            errors.setdefault(what, []).append(off)
    for what, offs in errors.items():
        ours, theirs = np.transpose(offs)
        jumps = what == "gradients"
        print(f"{what}: {ours.min():.2e} to {ours.max():.2e}, PyTorch {theirs.min():.2e} to {theirs.max():.2e}")
        assert (ours.min() <= TIMES * np.median(theirs)) if jumps else (rms(ours) <= TIMES * rms(theirs)), what
        assert ours.max() <= JUMP, what
    again = our_gradients(pair.ours, *training_batch(pair.ours, 0))
    for name in pair.ours.gradients:
        np.testing.assert_array_equal(again[name], first[name])


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def flops(model):
    return sum(node.layer.flops(node.geometry, node.shape) for node in model.graph.nodes)


def training_batch(model, seed):
    draw, shape = np.random.default_rng(seed), (BATCH, *model.output_shape[:-1])
    x = draw.standard_normal((BATCH, *model.input_shape)).astype(np.float32)
    return x, draw.integers(0, model.output_shape[-1], shape)


def kinds(model, arrays):
    trained = [name for name in arrays if name in model.gradients]
    statistics = [name for name in arrays if name not in model.gradients]
    return {"gradients": trained} | ({"statistics": statistics} if statistics else {})


def joined(arrays, names):
    return np.concatenate([arrays[name].ravel() for name in names])


def our_gradients(model, x, labels):
    ys = model.forward(x, training=True)
    several = isinstance(ys, list)
    losses = [nc.losses.cross_entropy(y, labels) for y in (ys if several else [ys])]
    dys = [np.float32(weight) * dy for weight, (_, dy) in zip(LOSS_WEIGHTS, losses, strict=False)]
    model.backward(dys if several else dys[0])
    gradients = {name: as_pytorch(model, name, array) for name, array in model.gradients.items()}
    return gradients | {name: np.array(array) for name, array in model.state.items()}


def peer_gradients(peer, x, labels):
    peer.zero_grad()
    dtype = next(peer.parameters()).dtype
    ys = peer.train()(channels_first(x, dtype))
    ys = ys if isinstance(ys, list) else [ys]
    target = torch.tensor(labels)
    sum(
        weight * torch.nn.functional.cross_entropy(y, target) for weight, y in zip(LOSS_WEIGHTS, ys, strict=False)
    ).backward()
    state = {name: array.numpy().copy() for name, array in peer.state_dict().items() if "running" in name}
    return {name: parameter.grad.numpy() for name, parameter in peer.named_parameters()} | state


def as_pytorch(model, name, array):
    """Convert to PyTorch's layout; dense weights after a flattened image depend on that image's shape."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 1:
        return array
    flattened = {node.shape: node.input_shapes[0] for node in model.graph.nodes if node.layer.op == "flatten"}
    h, w, c = flattened.get((len(array),), (1, 1, len(array)))
    return array.reshape(h, w, c, -1).transpose(3, 2, 0, 1).reshape(array.shape[1], -1)


def test_every_model_has_a_twin():
    assert zoo_twins.TWINS.keys() == nc.models.MODELS.keys()
