"""Against PyTorch: every case of the table, optimisers, and fifty training steps of LeNet-5."""

import os
import zlib

import numpy as np
import oracles
import pytest
from cases import CASES
from engine import (
    KEY,
    Fixed,
    Result,
    assert_close,
    assert_results_close,
    case_arrays,
    one_layer,
    randomize,
    run,
    run_planned,
)

import numbacnn as nc

if os.environ.get("NUMBACNN_REQUIRE_PEERS"):
    import torch
else:
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed; NUMBACNN_REQUIRE_PEERS=1 makes that a failure"
    )
F = torch.nn.functional

TOLERANCE = 1e-4  # relative norm: the promise


def tensor(array, dtype=torch.float64):
    return torch.tensor(np.asarray(array), dtype=dtype, requires_grad=True)


def channels_first(x):
    return x.permute(0, 3, 1, 2)


def channels_last(y):
    return y.permute(0, 2, 3, 1)


def pads(g):
    """F.pad's (left, right, top, bottom), so that every window lies inside."""
    bottom = (g.p - 1) * g.stride_h + reach(g, 0) - g.h - g.pad_top
    right = (g.q - 1) * g.stride_w + reach(g, 1) - g.w - g.pad_left
    return g.pad_left, right, g.pad_top, bottom


def reach(g, axis):
    window, dilation = (g.r, g.s)[axis], getattr(g, ("dilation_h", "dilation_w")[axis], 1)
    return (window - 1) * dilation + 1


# -- layers -----------------------------------------------------------------------------------------------------------


def conv2d(layer, g, x, weight, bias=None):
    stride, dilation = (g.stride_h, g.stride_w), (g.dilation_h, g.dilation_w)
    height, width = (g.p - 1) * g.stride_h + reach(g, 0), (g.q - 1) * g.stride_w + reach(g, 1)
    room = [max(0, sides) for sides in pads(g)]  # negative where windows leave pixels out
    padded = F.pad(channels_first(x), room)[:, :, :height, :width]
    return channels_last(F.conv2d(padded, weight.permute(3, 2, 0, 1).contiguous(), bias, stride, 0, dilation, g.groups))


def conv2d_transpose(layer, g, x, weight, bias=None):
    """PyTorch's padding cuts the same from both sides, so ours is cut from its whole output; beyond it lies b."""
    options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
    whole = F.conv_transpose2d(channels_first(x), weight.permute(3, 2, 0, 1).contiguous(), **options)
    room = (0, max(0, g.w + g.pad_left - whole.shape[3]), 0, max(0, g.h + g.pad_top - whole.shape[2]))
    y = F.pad(whole, room)[:, :, g.pad_top : g.pad_top + g.h, g.pad_left : g.pad_left + g.w]
    return channels_last(y if bias is None else y + bias[:, None, None])


def symmetric(layer, g):
    """Padding in the only form that PyTorch's pools have, or None."""
    sides = (g.pad_top, g.pad_left)
    fits = (g.pad_bottom, g.pad_right) == sides and 2 * sides[0] <= g.r and 2 * sides[1] <= g.s
    return sides if fits else None


def max_pool2d(layer, g, x):
    stride, sides, image = (g.stride_h, g.stride_w), symmetric(layer, g), channels_first(x)
    if sides is not None:
        return channels_last(F.max_pool2d(image, (g.r, g.s), stride, sides, ceil_mode=layer.ceil_mode))
    return channels_last(F.max_pool2d(F.pad(image, pads(g), value=-np.inf), (g.r, g.s), stride))


def avg_pool2d(layer, g, x):
    stride, sides, image = (g.stride_h, g.stride_w), symmetric(layer, g), channels_first(x)
    if sides is not None:
        y = F.avg_pool2d(image, (g.r, g.s), stride, sides, layer.ceil_mode, layer.count_include_pad)
        return channels_last(y)

    def sums(values, padding):
        return F.avg_pool2d(F.pad(values, padding), (g.r, g.s), stride, divisor_override=1)

    counted = torch.ones(1, 1, g.h, g.w, dtype=torch.float64)
    if layer.count_include_pad:
        counted = F.pad(counted, (g.pad_left, g.pad_right, g.pad_top, g.pad_bottom), value=1.0)
        _, right, _, bottom = pads(g)
        return channels_last(sums(image, pads(g)) / sums(counted, (0, right - g.pad_right, 0, bottom - g.pad_bottom)))
    return channels_last(sums(image, pads(g)) / sums(counted, pads(g)))


def global_pool(function):
    def pool(layer, g, x):
        return function(x, dim=(1, 2), keepdim=layer.keepdims)

    return pool


def batch_norm(layer, g, x, weight, bias):
    """In training. Features or images: PyTorch wants channels second."""
    y = F.batch_norm(x.movedim(-1, 1), None, None, weight, bias, training=True, eps=layer.eps)
    return y.movedim(1, -1)


def group_norm(layer, g, x, weight, bias):
    return F.group_norm(x.movedim(-1, 1), layer.groups, weight, bias, layer.eps).movedim(1, -1)


def local_response_norm(layer, g, x):
    return channels_last(F.local_response_norm(channels_first(x), layer.size, layer.alpha, layer.beta, layer.k))


def dropout(layer, g, x):
    """PyTorch draws other numbers: the mask is the oracle's."""
    key = *KEY, zlib.crc32(f"{layer.op}_1".encode())
    return x * torch.tensor(oracles.forward(layer, [np.ones(x.shape)], {}, key))


def upsample2d(layer, g, x):
    corners = {"align_corners": False} if layer.mode == "bilinear" else {}
    return channels_last(F.interpolate(channels_first(x), scale_factor=layer.factor, mode=layer.mode, **corners))


def multiply(layer, g, *xs):
    images = [x[:, None, None] if i == g and x.ndim == 2 else x for i, x in enumerate(xs)]
    return images[0] * images[1]


PEERS = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "local_response_norm": local_response_norm,
    "dropout": dropout,
    "spatial_dropout": dropout,
    "conv2d": conv2d,
    "depthwise_conv2d": conv2d,
    "conv2d_transpose": conv2d_transpose,
    "dense": lambda layer, g, x, weight, bias=None: F.linear(x, weight.T, bias),
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_max_pool2d": global_pool(torch.amax),
    "global_avg_pool2d": global_pool(torch.mean),
    "relu": lambda layer, g, x: F.relu(x),
    "tanh": lambda layer, g, x: torch.tanh(x),
    "sigmoid": lambda layer, g, x: torch.sigmoid(x),
    "softmax": lambda layer, g, x: F.softmax(x, -1),
    "flatten": lambda layer, g, x: torch.flatten(x, 1),
    "relu6": lambda layer, g, x: F.relu6(x),
    "leaky_relu": lambda layer, g, x: F.leaky_relu(x, layer.slope),
    "prelu": lambda layer, g, x, w: channels_last(F.prelu(channels_first(x), w)) if x.ndim == 4 else F.prelu(x, w),
    "elu": lambda layer, g, x: F.elu(x, layer.alpha),
    "gelu": lambda layer, g, x: F.gelu(x, approximate=layer.approximate),
    "silu": lambda layer, g, x: F.silu(x),
    "hardswish": lambda layer, g, x: F.hardswish(x),
    "hardsigmoid": lambda layer, g, x: F.hardsigmoid(x),
    "adaptive_avg_pool2d": lambda layer, g, x: channels_last(F.adaptive_avg_pool2d(channels_first(x), (g.p, g.q))),
    "adaptive_max_pool2d": lambda layer, g, x: channels_last(F.adaptive_max_pool2d(channels_first(x), (g.p, g.q))),
    "upsample2d": upsample2d,
    "zero_pad2d": lambda layer, g, x: F.pad(x, (0, 0, g.left, g.right, g.top, g.bottom)),
    "reshape": lambda layer, g, x: torch.reshape(x, (len(x), *layer.shape)),
    "add": lambda layer, g, *xs: sum(xs),
    "concat": lambda layer, g, *xs: torch.cat(xs, -1),
    "multiply": multiply,
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers_match_pytorch_in_float64(case):
    model = one_layer(case)
    (node,) = model.graph.nodes
    arrays, (dy,) = case_arrays(case, model)
    xs, parameters = [tensor(x) for x in arrays], {name: tensor(array) for name, array in model.parameters.items()}
    y = PEERS[node.layer.op](node.layer, node.geometry, *xs, *parameters.values())
    y.backward(tensor(dy))
    expected = Result(
        [y.detach().numpy()],
        [x.grad.numpy() for x in xs],
        {name: parameter.grad.numpy() for name, parameter in parameters.items()},
    )
    assert_results_close(run(model, arrays, [dy]), expected, str(case), TOLERANCE)


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
