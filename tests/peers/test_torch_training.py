"""Comparisons with PyTorch: its optimizers and schedules, step by step; clipping and averages of weights."""

import os

import numpy as np
import pytest
from engine import assert_close
from rules import RULES

import numbacnn as nc
from numbacnn import schedules
from numbacnn.kernels.decision import AVERAGE_SHARE, DECISION
from numbacnn.training.averages import WeightAverage

if os.environ.get("NUMBACNN_REQUIRE_PEERS"):
    import torch
else:
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed; NUMBACNN_REQUIRE_PEERS=1 makes that a failure"
    )

STEPS = 30
TOLERANCE = 1e-4  # relative norm of what a parameter has moved in all


def small_model():
    """Convolutions, narrow and wide, dense layers, biases: arrays of many shapes."""
    layers = [
        nc.Conv2D(5, 3), nc.Tanh(), nc.Conv2D(24, 2, bias=False), nc.Tanh(), nc.Flatten(),
        nc.Dense(33), nc.Tanh(), nc.Dense(3),
    ]  # fmt: skip
    return nc.Sequential(layers, (6, 6, 2), seed=1)


def as_pytorch(name, array):
    """Our array as PyTorch keeps it: filters and units first. A copy."""
    return np.ascontiguousarray(np.float64(array).transpose(*reversed(range(array.ndim))))


def matrix(array):
    return array.reshape(len(array), -1)


def follow(ours, theirs, dtype, flat=False, tolerance=TOLERANCE):
    """Steps of both from the same gradients, ours, so that what differs is the update alone."""
    rng, model, start = np.random.default_rng(0), small_model(), {}
    peers = {}
    for name, array in model.parameters.items():
        start[name] = as_pytorch(name, array)
        value = matrix(start[name]) if flat and array.ndim > 1 else start[name]
        peers[name] = torch.tensor(value, dtype=dtype, requires_grad=True)
    peer_optimizers = theirs(peers)
    for step in range(STEPS):
        model.backward(rng.standard_normal(model.forward(rng.standard_normal((4, 6, 6, 2)), training=True).shape))
        for name, gradient in model.gradients.items():
            peers[name].grad = torch.tensor(as_pytorch(name, gradient), dtype=dtype).reshape(peers[name].shape)
        ours.step(model)
        for optimizer in peer_optimizers:
            optimizer.step()
        for name, array in model.parameters.items():
            moved = np.float32(as_pytorch(name, array) - start[name])
            expected = peers[name].detach().numpy().astype(np.float64).reshape(start[name].shape) - start[name]
            assert_close(moved, expected, f"step {step + 1}: {name}", tolerance)


o = torch.optim
PAIRS = {name: pair for rule in RULES for name, pair in rule.pytorch.items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS.values(), ids=PAIRS)
def test_optimizers_match_pytorch_step_by_step(ours, theirs, dtype):
    follow(ours(), lambda peers: [theirs(list(peers.values()))], dtype)


MUON = {
    "default": ({}, {}),
    "plain": ({"nesterov": False, "momentum": 0.8}, {"nesterov": False, "momentum": 0.8}),
    "decay": ({"weight_decay": 0.3, "iterations": 3}, {"weight_decay": 0.3, "ns_steps": 3}),
}


def muon(options):
    def make(peers):
        matrices = [peer for peer in peers.values() if peer.ndim > 1]
        others = [peer for peer in peers.values() if peer.ndim == 1]
        return [o.Muon(matrices, 0.02, **({"weight_decay": 0.0} | options)), o.AdamW(others, 0.001)]

    return make


@pytest.mark.parametrize(("ours", "theirs"), MUON.values(), ids=MUON)
def test_muon_matches_pytorchs_without_its_rounding_to_bfloat16(ours, theirs, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    follow(nc.Muon(**ours), muon(theirs), torch.float64, flat=True)


def test_groups_match_pytorchs():
    def theirs(peers):
        biases = [peer for name, peer in peers.items() if name.endswith(".bias")]
        rest = [peer for name, peer in peers.items() if not name.endswith(".bias") and not name.startswith("conv2d_1")]
        slow = {"params": [peers["conv2d_1.weight"]], "lr": 0.002, "momentum": 0.5}
        return [o.SGD([{"params": biases, "weight_decay": 0.0}, slow, {"params": rest}], 0.02, 0.9, weight_decay=0.1)]

    groups = [nc.ParamGroup("*.bias", weight_decay=0), nc.ParamGroup("conv2d_1.*", learning_rate=0.002, momentum=0.5)]
    follow(nc.SGD(0.02, momentum=0.9, weight_decay=0.1, groups=groups), theirs, torch.float64)


@pytest.mark.parametrize(("option", "clip"), [
    ("clip_norm", lambda peers: torch.nn.utils.clip_grad_norm_(peers, 0.7)),
    ("clip_value", lambda peers: torch.nn.utils.clip_grad_value_(peers, 0.7)),
])  # fmt: skip
def test_clipping_matches_pytorchs(option, clip):
    class Clipped(o.SGD):
        def step(self):
            clip([peer for group in self.param_groups for peer in group["params"]])
            super().step()

    follow(nc.SGD(0.05, **{option: 0.7}), lambda peers: [Clipped(list(peers.values()), 0.05)], torch.float64)


def test_averages_match_pytorchs():
    rng, model = np.random.default_rng(0), small_model()
    peer = torch.nn.Linear(7, 5, bias=False)
    average = torch.optim.swa_utils.AveragedModel(
        peer.double(), multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    model = nc.Sequential([nc.Dense(5, bias=False)], (7,))
    ours, decision = WeightAverage(model.store, 0.9), np.zeros(DECISION)
    for step in range(STEPS):
        weights = rng.standard_normal((7, 5))
        model.set_parameters({"dense_1.weight": weights})
        peer.weight.data[:] = torch.tensor(np.float64(np.float32(weights)).T)
        decision[AVERAGE_SHARE] = 0.1 if step else 1.0
        ours.launch(decision)
        average.update_parameters(peer)
        found = model.store.view(ours.values)["dense_1.weight"]
        assert_close(np.array(found), average.module.weight.detach().numpy().T, f"step {step + 1}")


# -- schedules --------------------------------------------------------------------------------------------------------

s = torch.optim.lr_scheduler


def one_cycle(rise, divisor, final):
    return lambda opt, steps: s.OneCycleLR(
        opt, 1.0, total_steps=steps, pct_start=rise, div_factor=divisor, final_div_factor=final, cycle_momentum=False
    )


def warm_cosine(opt, steps):
    parts = [s.LinearLR(opt, 0.1, total_iters=7), s.CosineAnnealingLR(opt, steps - 7)]
    return s.SequentialLR(opt, parts, [7])


SCHEDULES = {
    "constant": (schedules.constant, lambda opt, steps: s.ConstantLR(opt, 1.0)),
    "cosine": (schedules.cosine, lambda opt, steps: s.CosineAnnealingLR(opt, steps)),
    "step": (schedules.Step(every=8, gamma=0.3), lambda opt, steps: s.StepLR(opt, 8, 0.3)),
    "milestones": (schedules.Step((3, 11, 12), 0.5), lambda opt, steps: s.MultiStepLR(opt, [3, 11, 12], 0.5)),
    "one cycle": (schedules.OneCycle(), one_cycle(0.3, 25, 1e4)),
    "one cycle, late": (schedules.OneCycle(0.8, 10, 50), one_cycle(0.8, 10, 50)),
    "warm-up": (schedules.Warmup(length=9, start=0.25), lambda opt, steps: s.LinearLR(opt, 0.25, total_iters=9)),
    "warm-up and cosine": (schedules.Warmup(schedules.cosine, 7, 0.1), warm_cosine),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # PyTorch's own use of it, in SequentialLR
@pytest.mark.parametrize("steps", [13, 40, 101])
@pytest.mark.parametrize(("ours", "theirs"), SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_match_pytorch_step_by_step(ours, theirs, steps):
    optimizer = o.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    peer = theirs(optimizer, steps)
    for step in range(steps):
        assert ours(step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12), step
        optimizer.step()
        if step < steps - 1:
            peer.step()


@pytest.mark.parametrize(
    "options",
    [{}, {"patience": 0}, {"patience": 2, "factor": 0.5}, {"patience": 1, "cooldown": 3, "threshold": 0.05}],
    ids=str,
)
def test_plateau_matches_pytorch_loss_by_loss(options):
    losses = np.exp(-np.arange(80) / 9) + 0.05 * np.random.default_rng(1).random(80)
    optimizer = o.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    peer = s.ReduceLROnPlateau(optimizer, **{"min_lr": 1e-3, "eps": 0.0} | options)
    ours = schedules.Plateau(min_lr=1e-3, **options)
    for epoch, loss in enumerate(losses):
        peer.step(loss)
        found = schedules.after(ours, list(losses[: epoch + 1]))(0, 1)
        assert found == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), epoch
    assert found < 1
