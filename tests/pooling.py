"""Cases of pools over windows, and a test of all max-pools."""

import numpy as np
from engine import Result, assert_same_bits, case_arrays, one_layer, oracle, run
from op import BATCHES, CHANNELS, Case, case, describe, draw_axis, draw_padding

GEOMETRIES = [
    ("halves", (8, 6, 5), 2, {}),
    ("one channel, one image", (7, 5, 1), 1, {"pool_size": (3, 2)}),
    ("overlapping windows", (9, 8, 3), 2, {"pool_size": 3, "stride": 2}),
    ("overlapping windows at stride 1", (6, 7, 9), 1, {"pool_size": 3, "stride": 1, "padding": "same"}),
    ("a rest at the end is dropped", (7, 9, 2), 2, {"pool_size": 2}),
    ("ceil_mode keeps the rest", (7, 9, 2), 2, {"pool_size": 2, "ceil_mode": True}),
    ("ceil_mode drops a window that starts in the padding", (4, 5, 2), 1,
     {"pool_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    ("ceil_mode with padding", (6, 7, 4), 2, {"pool_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("padding on one side only", (5, 6, 3), 1, {"pool_size": 3, "stride": 2, "padding": ((1, 0), (0, 2))}),
    ("stride larger than the window", (11, 12, 3), 2, {"pool_size": 2, "stride": (3, 5)}),
    ("window as large as the image", (4, 3, 6), 2, {"pool_size": (4, 3)}),
    ("one pixel", (1, 1, 17), 1, {"pool_size": 1}),
    ("long rows of channels", (3, 3, 35), 2, {"pool_size": 2, "stride": 1}),
]  # fmt: skip


def picked(layer):
    return [case(layer, reason, shape, batch, **options) for reason, shape, batch, options in GEOMETRIES]


def over_windows(layer, **choices):
    """Return a function that draws cases of a pool; ``choices``: functions that draw further options."""

    def draw_one(draw):
        (h, r, stride_h), (w, s, stride_w) = draw_axis(draw), draw_axis(draw)
        options = {
            "stride": (stride_h, stride_w),
            "padding": draw_padding(draw, min(r, s) - 1),
            "ceil_mode": draw.random() < 0.5,
            **{name: choose(draw) for name, choose in choices.items()},
        }
        name, shape = f"{layer.op} {describe((r, s), options)}", (h, w, draw.choice(CHANNELS))
        return Case(name, lambda: layer((r, s), **options), (shape,), draw.choice(BATCHES))

    return draw_one


def assert_first_of_equals_gets_the_gradient(case):
    """Check the bits of the gradient for inputs full of ties: sums of small integers are exact."""
    model = one_layer(case)
    xs, dys = case_arrays(case, model)
    xs, dys = [np.clip(np.round(x), -1, 1) for x in xs], [np.round(4 * dy) for dy in dys]
    expected = oracle(model, xs, dys)
    expected = Result(*([array.astype(np.float32) for array in arrays] for arrays in expected[:2]), {})
    assert_same_bits(run(model, xs, dys), expected, str(case))
