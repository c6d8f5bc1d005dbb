"""Generated scenes: seeded, with masks and boxes that agree with their images."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.data import make_scenes
from numbacnn.detection import iou, unpack


@pytest.fixture(scope="module")
def digits():
    return nc.data.load("digits")


def test_scenes_depend_only_on_seed_and_index(digits):
    few, many = (make_scenes(digits[0], count, "boxes", seed=3) for count in (7, 600))
    np.testing.assert_array_equal(few.images, many.images[:7])
    for one, other in zip(unpack(few.labels), unpack(many.labels), strict=False):
        np.testing.assert_array_equal(one, other)
    assert (make_scenes(digits[0], 7, "boxes", seed=4).images != few.images).any()


def test_masks_and_boxes_have_the_same_scenes(digits):
    masks, boxes = (make_scenes(digits[0], 60, labels, seed=1) for labels in ("masks", "boxes"))
    np.testing.assert_array_equal(masks.images, boxes.images)
    assert masks.classes == ("background", *"0123456789")
    assert boxes.classes == tuple("0123456789")
    for image, mask, rows in zip(masks.images[..., 0], masks.labels, unpack(boxes.labels), strict=True):
        assert 1 <= len(rows) <= 5
        assert set(np.unique(mask)) - {0} <= {int(label) + 1 for label in rows[:, 4]}
        in_boxes = np.zeros(mask.shape, bool)
        for x0, y0, x1, y1, _ in rows.astype(int):
            in_boxes[y0:y1, x0:x1] = True
        assert not mask[~in_boxes].any()
        last = rows[-1].astype(int)  # nothing hides the last object, so its box is tight
        own = mask[last[1] : last[3], last[0] : last[2]] == last[4] + 1
        assert all(side.any() for side in (own[0], own[-1], own[:, 0], own[:, -1]))
        assert np.median(image[mask > 0]) > np.median(image[mask == 0])
        overlap = iou(rows[:, :4], rows[:, :4]) - np.eye(len(rows))
        assert overlap.max() < 0.5


@pytest.mark.parametrize("size", [16, 40, 96])
def test_scenes_of_other_sizes(digits, size):
    scenes = make_scenes(digits[1], 30, "boxes", size=size, max_objects=2)
    assert scenes.images.shape == (30, size, size, 1)
    rows = np.concatenate(list(unpack(scenes.labels)))
    assert len(rows) > 20
    assert 0.1 * size < np.median(rows[:, 3] - rows[:, 1]) < 0.6 * size


def test_test_scenes_have_test_digits():
    train, test = nc.data.load("digits", labels="masks", scenes=12, size=(48, 48))
    assert (len(train), train.images.shape[1:], len(test)) == (12, (48, 48, 1), 1000)
    own = nc.data.load("digits")[1]
    np.testing.assert_array_equal(make_scenes(own, 3, "masks", size=48, seed=1).images, test.images[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "mask"}, "unknown labels 'mask'; did you mean 'masks'"),
        ({"labels": "boxes", "size": 15}, "size=15: pass a whole number of at least 16"),
        ({"labels": "boxes", "max_objects": 0}, "max_objects=0"),
        ({"labels": "boxes", "count": 0}, "count=0"),
    ],
)
def test_invalid_numbers(digits, options, message):
    with pytest.raises(nc.ArgumentError, match=message):
        make_scenes(digits[1], **{"count": 2} | options)


def test_invalid_sources(digits):
    scenes = make_scenes(digits[1], 2, "masks")
    with pytest.raises(nc.ArgumentError, match="scenes are made of 8-bit gray images"):
        make_scenes(scenes, 2, "masks")
    for options in ({"scenes": 4}, {"size": (32, 32)}):
        with pytest.raises(nc.ArgumentError, match=r"scenes are made|have a fixed size"):
            nc.data.load("digits", **options)
    with pytest.raises(nc.ArgumentError, match="scenes are square, not 32×48"):
        nc.data.load("digits", labels="masks", scenes=1, size=(32, 48))
