"""Comparisons with PyTorch: every case of the table, batch normalization, and fifty steps of LeNet-5."""

import os

import numpy as np
import pytest
from cases import CASES, OPS
from engine import (
    Fixed,
    Result,
    assert_close,
    assert_results_close,
    case_arrays,
    case_oracle,
    one_layer,
    randomize,
    run,
    run_planned,
)
from pytorch import F, channels_first, tensor

import numbacnn as nc

if os.environ.get("NUMBACNN_REQUIRE_PEERS"):
    import torch
else:
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed; NUMBACNN_REQUIRE_PEERS=1 makes that a failure"
    )
TOLERANCE = 1e-4  # relative norm: the promise


# -- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers_match_pytorch_in_float64(case):
    model = one_layer(case)
    (node,) = model.graph.nodes
    arrays, (dy,) = case_arrays(case, model)
    xs, parameters = [tensor(x) for x in arrays], {name: tensor(array) for name, array in model.parameters.items()}
    y = OPS[node.layer.op].pytorch(node.layer, node.geometry, *xs, *parameters.values())
    y.backward(tensor(dy))
    expected = Result(
        [y.detach().numpy()],
        [x.grad.numpy() for x in xs],
        {name: parameter.grad.numpy() for name, parameter in parameters.items()},
    )
    assert_results_close(run(model, arrays, [dy]), expected, str(case), TOLERANCE)
    for name, array in case_oracle(case).named().items():
        np.testing.assert_allclose(array, expected.named()[name], 1e-7, 1e-7, err_msg=f"{case}: {name} of the oracle")


@pytest.mark.parametrize("momentum", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("shape", [(6, 5, 3), (9,)], ids=str)
def test_running_statistics_follow_pytorch_step_by_step_and_so_does_inference(shape, momentum, rng):
    model = nc.Sequential([nc.BatchNorm(momentum, eps=1e-3)], shape)
    peer = torch.nn.BatchNorm1d(shape[-1], eps=1e-3, momentum=momentum, dtype=torch.float64)
    for step in range(10):
        x = (rng.standard_normal((8 + step, *shape)) * (1 + step) + 10 * step).astype(np.float32)
        model.forward(x, training=True)
        peer(tensor(x).reshape(-1, shape[-1]))
        for name, array in model.state.items():
            assert_close(array, getattr(peer, name.split(".")[1]).numpy(), f"step {step + 1}: {name}", 1e-6)
    expected = peer.eval()(tensor(x).reshape(-1, shape[-1])).detach().numpy().reshape(x.shape)
    assert_close(model.forward(x), expected, "inference", 1e-6)


@pytest.mark.parametrize("shape", [(6, 5, 3), (9,)], ids=str)
def test_gradients_with_fixed_statistics_match_pytorch_s_evaluation(shape, rng):
    start = nc.Input(shape)
    model = nc.Model([start], [nc.BatchNorm()(start)])
    randomize(model, rng)
    arrays = {name.split(".")[1]: tensor(array) for name, array in model.store.arrays().items()}
    x, dy = rng.standard_normal((2, 7, *shape)).astype(np.float32)
    peer, (weight, bias) = tensor(x), (arrays["weight"], arrays["bias"])
    running = arrays["running_mean"].detach(), arrays["running_var"].detach()
    y = F.batch_norm(peer.movedim(-1, 1), *running, weight, bias).movedim(1, -1)
    y.backward(tensor(dy))
    gradients = {"batch_norm_1.weight": weight.grad.numpy(), "batch_norm_1.bias": bias.grad.numpy()}
    expected = Result([y.detach().numpy()], [peer.grad.numpy()], gradients)
    assert_results_close(run_planned(model, [x], [dy], Fixed), expected, str(shape), 1e-6)


# -- training ---------------------------------------------------------------------------------------------------------


class LeNet(torch.nn.Module):
    """The same network in PyTorch, from the same weights."""

    def __init__(self, model, dtype):
        super().__init__()
        weights = {name: torch.tensor(np.array(array), dtype=dtype) for name, array in model.parameters.items()}
        self.weights = torch.nn.ParameterDict({name.replace(".", "/"): array for name, array in weights.items()})

    def forward(self, x):
        w = self.weights
        for i, padding in ((1, 2), (2, 0)):
            y = F.conv2d(x, w[f"conv2d_{i}/weight"].permute(3, 2, 0, 1), w[f"conv2d_{i}/bias"], padding=padding)
            x = F.max_pool2d(F.relu(y), 2)
        x = x.permute(0, 2, 3, 1).flatten(1)
        for i in (1, 2, 3):
            x = F.linear(F.relu(x) if i > 1 else x, w[f"dense_{i}/weight"].T, w[f"dense_{i}/bias"])
        return x


def batches(rng, count, size=32):
    """Noise of ten different means: something to learn, so that losses fall."""
    motifs = rng.standard_normal((10, 28, 28, 1))
    for _ in range(count):
        labels = rng.integers(0, 10, size)
        yield (motifs[labels] + rng.standard_normal((size, 28, 28, 1))).astype(np.float32), labels


def peer_step(peer, optimizer, x, labels, dtype):
    optimizer.zero_grad()
    loss = F.cross_entropy(peer(channels_first(torch.tensor(x, dtype=dtype))), torch.tensor(labels))
    loss.backward()
    optimizer.step()
    return loss.item()


def test_fifty_steps_of_lenet_follow_pytorch(rng):
    model, optimizer = nc.models.lenet5(seed=3), nc.SGD(0.003, momentum=0.9)
    peer = LeNet(model, torch.float32)
    peer_optimizer = torch.optim.SGD(peer.parameters(), 0.003, momentum=0.9)
    losses = [
        (model.train_step(x, labels, optimizer), peer_step(peer, peer_optimizer, x, labels, torch.float32))
        for x, labels in batches(rng, 50)
    ]
    ours, theirs = np.array(losses).T
    assert ours[-5:].mean() < 0.5 * ours[:5].mean()
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
