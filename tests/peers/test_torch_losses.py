"""Against PyTorch: every loss of the table, training steps of several outputs and auxiliary heads, and penalties."""

import numpy as np
import pytest
from engine import assert_close
from loss_cases import CASES
from pytorch import F, tensor
from test_torch import TOLERANCE, torch

import numbacnn as nc


def _vector(weights):
    return None if weights is None else torch.tensor(weights, dtype=torch.float64)


def cross_entropy(x, target, label_smoothing=0.0, class_weights=None, ignore_index=None):
    rows, weights = x.reshape(-1, x.shape[-1]), _vector(class_weights)
    if target.dtype.is_floating_point:
        return F.cross_entropy(rows, target.reshape(rows.shape), weights, label_smoothing=label_smoothing)
    ignored = -(2**40) if ignore_index is None else ignore_index
    return F.cross_entropy(rows, target.reshape(-1), weights, ignore_index=ignored, label_smoothing=label_smoothing)


def focal(x, labels, gamma=2.0, class_weights=None, ignore_index=None):
    weights = torch.ones(x.shape[-1], dtype=torch.float64) if class_weights is None else _vector(class_weights)
    rows, labels = x.reshape(-1, x.shape[-1]), labels.reshape(-1)
    kept = labels == labels if ignore_index is None else labels != ignore_index
    rows, labels = rows[kept], labels[kept]
    nll = F.cross_entropy(rows, labels, reduction="none")
    return (weights[labels] * (1 - torch.exp(-nll)) ** gamma * nll).sum() / weights[labels].sum()


def binary_cross_entropy(x, target, pos_weight=1.0):
    weight = torch.tensor(pos_weight, dtype=torch.float64)
    return F.binary_cross_entropy_with_logits(x, target.double(), pos_weight=weight)


def sigmoid_focal(x, target, gamma=2.0, alpha=0.25):
    nll = F.binary_cross_entropy_with_logits(x, target.double(), reduction="none")
    weight = torch.where(target == 1, alpha, 1 - alpha)
    return (weight * (1 - torch.exp(-nll)) ** gamma * nll).mean()


def dice(x, target, activation="softmax", smooth=1.0, ignore_index=None):
    if ignore_index is not None:
        images = zip(x, target, strict=True)
        return torch.stack([dice(*_kept(*image, ignore_index), activation, smooth) for image in images]).mean()
    p = torch.softmax(x, -1) if activation == "softmax" else torch.sigmoid(x)
    p, t = p.reshape(len(p), -1, x.shape[-1]), target.reshape(len(p), -1, x.shape[-1])
    return (1 - (2 * (p * t).sum(1) + smooth) / ((p * p).sum(1) + (t * t).sum(1) + smooth)).mean()


def _kept(x, labels, ignored):
    """The pixels that count, as one image, and their one-hot labels."""
    x, kept = x.reshape(-1, x.shape[-1]), labels.reshape(-1) != ignored
    return x[kept][None], F.one_hot(labels.reshape(-1)[kept], x.shape[-1])[None]


def cross_entropy_dice(x, target, smooth=1.0, ignore_index=None):
    if ignore_index is None:
        return cross_entropy(x, target.double()) + dice(x, target, "softmax", smooth)
    images = zip(x[:, None], target[:, None], strict=True)
    means = [cross_entropy(*image, ignore_index=ignore_index).nan_to_num() for image in images]
    return torch.stack(means).mean() + dice(x, target, "softmax", smooth, ignore_index)


PEERS = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "binary_cross_entropy": binary_cross_entropy,
    "sigmoid_focal": sigmoid_focal,
    "dice": dice,
    "cross_entropy_dice": cross_entropy_dice,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber": lambda x, target, delta=1.0: F.huber_loss(x, target, delta=delta),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_match_pytorch_in_float64(case):
    outputs, _, target = case.arrays()
    x = tensor(outputs)
    expected = PEERS[case.name](x, torch.tensor(target), **case.options)
    expected.backward()
    loss, dy = case.ours()
    assert loss == pytest.approx(expected.item(), rel=1e-5, abs=1e-7)
    if case.shape[-1] == 1 and case.name == "cross_entropy":  # one class is certain
        assert np.abs(dy - x.grad.numpy()).max() < 1e-6
    else:
        assert_close(dy, x.grad.numpy(), str(case), TOLERANCE)


# -- training steps ---------------------------------------------------------------------------------------------------


def three_heads(l1=0.0, l2=0.0):
    """Two outputs and an auxiliary one on a trunk of one convolution."""
    x = nc.Input((6, 7, 2))
    trunk = nc.ReLU()(nc.Conv2D(5, 3, padding=1, l1=l1, l2=l2, name="trunk")(x))
    pooled = nc.Flatten()(nc.MaxPool2D(2)(trunk))
    heads = [nc.Dense(n, name=name, l2=l2)(pooled) for n, name in ((4, "first"), (3, "second"), (4, "helper"))]
    return nc.Model(x, heads[:2], auxiliary=heads[2:], auxiliary_weight=0.4, seed=5)


def their_outputs(weights, x):
    trunk = F.conv2d(x.permute(0, 3, 1, 2), weights["trunk.weight"].permute(3, 2, 0, 1), weights["trunk.bias"], 1, 1)
    pooled = F.max_pool2d(F.relu(trunk), 2).permute(0, 2, 3, 1).flatten(1)
    return [F.linear(pooled, weights[f"{n}.weight"].T, weights[f"{n}.bias"]) for n in ("first", "second", "helper")]


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.003, 0.0), (0.0, 0.02), (0.003, 0.02)])
def test_steps_of_several_outputs_auxiliary_heads_and_penalties_match_pytorch(l1, l2, rng):
    """Losses and gradients of three steps, with weights on the losses, from the same weights."""
    model, optimizer = three_heads(l1, l2), nc.SGD(0.05)
    losses = [nc.losses.CrossEntropy(label_smoothing=0.1), "mse"]
    for _ in range(3):
        x = rng.standard_normal((5, 6, 7, 2)).astype(np.float32)
        first, second = rng.integers(0, 4, 5), rng.standard_normal((5, 3)).astype(np.float32)
        peers = {name: tensor(array) for name, array in model.parameters.items()}
        ys = their_outputs(peers, torch.tensor(x.astype(np.float64)))
        label = torch.tensor(first)
        expected = 2 * F.cross_entropy(ys[0], label, label_smoothing=0.1)
        expected = expected + 0.5 * F.mse_loss(ys[1], torch.tensor(second.astype(np.float64)))
        expected = expected + 0.4 * F.cross_entropy(ys[2], label, label_smoothing=0.1)
        expected = expected + l1 * peers["trunk.weight"].abs().sum()
        for name in ("trunk", "first", "second", "helper"):
            expected = expected + l2 * (peers[f"{name}.weight"] ** 2).sum()
        expected.backward()
        loss = model.train_step(x, [first, second], optimizer, loss=losses, loss_weights=[2, 0.5])
        assert loss == pytest.approx(expected.item(), rel=1e-6)
        for name, gradient in model.gradients.items():
            assert_close(np.array(gradient), peers[name].grad.numpy(), name, 1e-5)
