import numpy as np
import pytest
from op import BATCHES, Case, Op, case, draw_image
from pytorch import F, channels_first, channels_last, torch

import numbacnn as nc
from numbacnn import functional
from numbacnn import layers as nl


def pytorch(layer, g, x):
    """PyTorch aligns corners in two ways, and rounds "asymmetric" coordinates down for the nearest pixel."""
    if layer.region is not None:
        return sampled(layer, x)
    if layer.mode == "nearest":
        return channels_last(F.interpolate(channels_first(x), size=layer.size, mode="nearest"))
    corners = layer.coordinates == "align_corners"
    return channels_last(F.interpolate(channels_first(x), size=layer.size, mode="bilinear", align_corners=corners))


def sampled(layer, x):
    """Sample x at the positions of a region, in PyTorch."""
    for axis, outputs, start, end in zip((1, 2), layer.size, layer.region[:2], layer.region[2:], strict=True):
        last = x.shape[axis] - 1
        positions = (torch.linspace(start, end, outputs, dtype=torch.float64) * last).clamp(0, last)
        lower = positions.floor() if layer.mode == "bilinear" else (positions - 0.5).ceil()
        share = (positions - lower).to(x.dtype) if layer.mode == "bilinear" else torch.zeros(outputs, dtype=x.dtype)
        share = share.reshape([-1, 1, 1] if axis == 1 else [-1, 1])
        first, second = (x.index_select(axis, (lower + i).long().clamp(0, last)) for i in (0, 1))
        x = first * (1 - share) + second * share
    return x


def draw_resize(draw):
    size = draw.randint(1, 12), draw.randint(1, 12)
    options = draw.choice(
        (("bilinear", "half_pixel"), ("bilinear", "align_corners"), ("nearest", "asymmetric", None, "floor"))
    )
    name = f"resize2d to {size[0]}x{size[1]} {options[0]} {options[1]}"
    return Case(name, lambda: nl.Resize2D(size, *options), (draw_image(draw),), draw.choice(BATCHES))


OP = Op(
    nl.Resize2D,
    pytorch=pytorch,
    draw=draw_resize,
    picked=[
        case(nl.Resize2D, "one pixel to many", (1, 1, 5), 2, (4, 3)),
        case(nl.Resize2D, "many pixels to one", (9, 7, 3), 2, 1, "bilinear", "align_corners"),
        case(nl.Resize2D, "far smaller", (20, 31, 2), 1, (3, 2)),
        *(
            case(nl.Resize2D, f"{name}, {mode}", (6, 7, 3), 2, (5, 4), mode, "align_corners", region=region)
            for mode in ("bilinear", "nearest")
            for name, region in (
                ("a region", (0.4, 0.1, 0.7, 0.9)),
                ("a region beyond the image", (-0.5, 0.4, 1.2, 1.7)),
                ("a region outside of the image", (1.2, -0.9, 1.4, -0.3)),
                ("a line", (0.3, 0.2, 0.3, 0.2)),
            )
        ),
    ],
)


def row(x, *options):
    """A row of pixels, resized to another."""
    return functional.resize2d(np.array(x, np.float32).reshape(1, 1, -1, 1), *options).reshape(-1).tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("nearest", "half_pixel"), [0, 0, 1, 1]),
        (("nearest", "align_corners"), [0, 0, 1, 1]),
        (("nearest", "asymmetric", None, "ceil"), [0, 1, 1, 1]),
        (("nearest", "asymmetric", None, "round_prefer_floor"), [0, 0, 1, 1]),
        (("nearest", "asymmetric", None, "round_prefer_ceil"), [0, 1, 1, 1]),
        (("bilinear", "half_pixel"), [0, 0.25, 0.75, 1]),
        (("bilinear", "asymmetric"), [0, 0.5, 1, 1]),
        (("bilinear", "align_corners"), [0, 1 / 3, 2 / 3, 1]),
        (("bilinear", "half_pixel_symmetric", (1, 2.5)), [0, 0.3, 0.7, 1]),
    ],
)
def test_two_pixels_become_four(options, expected):
    np.testing.assert_allclose(row([0, 1], (1, 4), *options), expected, atol=1e-6)


def test_one_pixel_is_the_first_or_the_middle():
    assert row([0, 1, 2, 3], 1, "bilinear", "pytorch_half_pixel") == [0]
    assert row([0, 1, 2, 3], 1, "bilinear", "half_pixel") == [1.5]


def test_infinite_neighbors_of_the_nearest_pixel_do_not_count():
    assert row([1, np.inf], (1, 4), "nearest") == [1, 1, np.inf, np.inf]


def test_arguments_are_checked():
    with pytest.raises(nc.ArgumentError, match="positive factors"):
        nl.Resize2D(3, scale=(0, 1))
    with pytest.raises(nc.ArgumentError, match="region needs coordinates"):
        nl.Resize2D(3, region=(0, 0, 1, 1))
    with pytest.raises(nc.ArgumentError, match="at most bottom and right"):
        nl.Resize2D(3, coordinates="align_corners", region=(1, 0, 0, 1))
    with pytest.raises(nc.ArgumentError, match="coordinates="):
        nl.Resize2D(3, coordinates="corners")
