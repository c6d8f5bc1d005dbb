"""Images, masks and boxes in another size: stretched, cropped or letterboxed, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from numbacnn.data.fitting import FITS, Placement

sides = st.integers(1, 60)
sizes = st.tuples(sides, sides)


@pytest.mark.parametrize("old", [(30, 40), (40, 30), (33, 33), (7, 91), (24, 32)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_crop_and_letterbox_are_those_of_pillow(old, mode, rng):
    corners = Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8))
    image = corners.resize(old[::-1], Image.Resampling.BILINEAR).convert(mode)
    for fit, expected in (("crop", ImageOps.fit), ("letterbox", ImageOps.pad)):
        found = np.asarray(Placement.of(old, (24, 32), fit).image(image), np.int64)
        wanted = np.asarray(expected(image, (32, 24), Image.Resampling.BILINEAR), np.int64)
        assert found.shape == wanted.shape
        largest = 0 if fit == "letterbox" else 8  # a crop may begin half a pixel elsewhere
        np.testing.assert_allclose(found, wanted, atol=largest)
    np.testing.assert_array_equal(
        Placement.of(old, (24, 32)).image(image), image.resize((32, 24), Image.Resampling.BILINEAR)
    )


@given(sizes, sizes, st.sampled_from(FITS))
def test_masks_and_boxes_follow_the_image(old, new, fit):
    """A mask of ones covers what the box around the whole image covers."""
    placement = Placement.of(old, new, fit)
    mask = placement.mask(np.ones(old, np.uint8))
    x0, y0, x1, y1 = placement.boxes(np.array([[0.0, 0.0, old[1], old[0]]]))[0]
    assert mask.shape == new
    assert mask.sum() == pytest.approx((x1 - x0) * (y1 - y0))
    assert mask.sum() == mask[round(y0) : round(y1), round(x0) : round(x1)].sum() > 0
    assert (fit == "letterbox") or mask.all()


@given(sizes, sizes, st.sampled_from(FITS), st.integers(0, 99))
def test_boxes_return_to_the_image(old, new, fit, seed):
    placement = Placement.of(old, new, fit)
    corners = np.random.default_rng(seed).uniform(0, 1, (5, 2, 2)) * [old[1], old[0]]
    boxes = np.sort(corners, axis=1).reshape(5, 4)
    placed = placement.boxes(boxes)
    back = placement.restored_boxes(placed)
    whole = (placed > 0) & (placed < [new[1], new[0]] * 2)  # not cut off
    np.testing.assert_allclose(back[whole], boxes[whole], atol=1e-9)
    assert (back >= 0).all()
    assert (back <= [old[1], old[0]] * 2).all()


def test_masks_return_to_the_image():
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for fit in ("stretch", "letterbox", "crop"):
        placement = Placement.of((2, 3), (4, 6), fit)
        np.testing.assert_array_equal(placement.restored_mask(placement.mask(mask)), mask)
    placed = Placement.of((2, 3), (6, 6), "letterbox").mask(mask)
    np.testing.assert_array_equal(placed[1:5], np.repeat(np.repeat(mask, 2, 0), 2, 1))
    assert not placed[[0, 5]].any()
