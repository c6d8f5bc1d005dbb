"""The bits do not depend on the addresses of buffers.

LLVM compiles some loops twice, for arrays near each other and far apart. Which of the two runs must not change the
results, because another plan, batch or process has other addresses.
"""

import numpy as np
import pytest
from cases import CASES
from engine import assert_same_bits, case_arrays, one_layer, run_planned
from loss_cases import CASES as LOSSES

from numbacnn.engine.device import get_device
from numbacnn.engine.plan import arena
from numbacnn.losses import get_loss

FAR = 1 << 14  # bytes


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers_give_the_same_bits_in_buffers_far_apart(case, monkeypatch):
    model = one_layer(case)
    xs, dys = case_arrays(case, model)
    near = run_planned(model, xs, dys)
    monkeypatch.setattr(arena, "ALIGNMENT", FAR)
    assert_same_bits(run_planned(model, xs, dys), near, str(case))


@pytest.mark.parametrize("case", LOSSES[::2], ids=str)
def test_losses_give_the_same_bits_in_buffers_far_apart(case):
    device = get_device("cpu")
    outputs, labels, _ = case.arrays()
    loss = type(get_loss(case.name))(**case.options)
    shape = outputs.shape if outputs.ndim == 4 else (len(outputs), 1, 1, -1)
    x = outputs.reshape(shape)
    target = loss.target(labels, x.shape)
    found = []
    for gap in (16, 1 << 12):  # floats; 16 are a cache line
        arena = device.zeros(3 * (x.size + 16 + gap))
        starts = [i * (-(-x.size // 16) * 16 + gap) for i in range(3)]
        y, dy = (arena[start : start + x.size].reshape(x.shape) for start in starts[:2])
        losses = arena[starts[2] : starts[2] + x[..., 0].size]
        np.copyto(y, x)
        loss.launch(device.kernels, losses, dy, y, target, 1.0)
        found.append((losses.copy(), dy.copy()))
    for near, far in zip(*found, strict=True):
        np.testing.assert_array_equal(near, far)
