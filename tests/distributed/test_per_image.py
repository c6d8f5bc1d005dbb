"""Layers that say so give an image the same bits whatever other images are in its batch: shards may run together."""

from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, PICKED
from engine import case_arrays, one_layer, run
from loss_cases import CASES as LOSS_CASES

from numbacnn.engine.device import get_device
from numbacnn.losses import LOSSES


def check(case):
    """Compare outputs and gradients of the inputs of a batch with those of its two parts."""
    model = one_layer(case)
    xs, dys = case_arrays(case, model, 7)
    whole = run(model, xs, dys)
    for rows in (slice(1), slice(1, None), slice(4), slice(4, None)):
        part = run(model, [x[rows] for x in xs], [dy[rows] for dy in dys])
        for found, expected in zip(part.ys + part.dxs, whole.ys + whole.dxs, strict=True):
            np.testing.assert_array_equal(found, expected[rows], f"{case}: images {rows}")


@pytest.mark.parametrize("case", [case for case in PICKED if case.layer().per_image], ids=str)
def test_an_image_has_the_same_bits_in_any_batch(case):
    check(case)


@pytest.mark.long
@pytest.mark.parametrize("case", [case for case in CASES if case.layer().per_image], ids=str)
def test_an_image_has_the_same_bits_in_any_batch_of_every_case(case):
    check(case)


@pytest.mark.parametrize(
    "case", [case for case in LOSS_CASES[::4] if LOSSES[case.name].per_image and case.shape[0] > 1], ids=str
)
def test_losses_that_say_so_give_an_image_the_same_bits_in_any_batch(case):
    loss, kernels, (outputs, given, _) = (
        replace(LOSSES[case.name], **case.options),
        get_device("cpu").kernels,
        case.arrays(),
    )
    x = np.ascontiguousarray(outputs if outputs.ndim == 4 else outputs[:, None, None], np.float32)
    target = loss.target(given, x.shape)

    def launched(start, stop):
        part, pixels = x[start:stop], len(target) // len(x)
        losses, dx = np.zeros(part[..., 0].size, np.float32), np.zeros_like(part)
        loss.launch(kernels, losses, dx, part, target[start * pixels : stop * pixels], 0.3)
        return losses.reshape(part.shape[:-1]), dx

    whole = launched(0, len(x))
    for start, stop in ((0, 1), (1, len(x))):
        for found, expected in zip(launched(start, stop), whole, strict=True):
            np.testing.assert_array_equal(found, expected[start:stop])
