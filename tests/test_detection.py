"""IoU, non-maximum suppression and average precision, against cases by hand and a naive oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn import detection as b
from numbacnn.detection import Detections, pack
from numbacnn.errors import DataError


def row(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def found(*rows):
    """Detections from (x0, y0, x1, y1, class, score)."""
    array = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(array[:, :4], array[:, 4].astype(np.int64), array[:, 5])


def truth(*images):
    return b.pack([np.array(rows, np.float32).reshape(-1, 5) for rows in images])


def test_iou_of_known_boxes():
    square = row((0, 0, 2, 2))
    others = row((0, 0, 2, 2), (1, 0, 3, 2), (2, 0, 4, 2), (5, 5, 6, 6), (1, 1, 1, 1), (0.5, 0.5, 1.5, 1.5))
    np.testing.assert_allclose(b.iou(square, others), [[1, 1 / 3, 0, 0, 0, 1 / 4]], rtol=1e-6)
    assert b.iou(row((1, 1, 1, 1)), row((1, 1, 1, 1)))[0, 0] == 0
    assert b.iou(row(), square).shape == (0, 1)


def test_packing_and_unpacking():
    rows = [np.ones((2, 5), np.float32), np.zeros((0, 5), np.float32)]
    packed = b.pack(rows)
    assert packed.shape == (2, 2, 5)
    for one, other in zip(rows, b.unpack(packed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert b.pack([rows[1]]).shape == (1, 1, 5)


def test_nms_keeps_the_highest_scores_and_boxes_that_overlap_little():
    boxes = row((0, 0, 4, 4), (0, 0, 4, 3), (0, 2, 4, 6), (9, 9, 10, 10))
    scores = np.array([0.5, 0.9, 0.8, 0.1], np.float32)
    assert b.nms(boxes, scores, 0.5).tolist() == [1, 2, 3]
    assert b.nms(boxes, scores, 0.8).tolist() == [1, 2, 0, 3]
    assert b.nms(boxes[:2], np.array([0.5, 0.5], np.float32), 0.5).tolist() == [0]  # the first of equal scores
    assert b.nms(row(), np.zeros(0, np.float32), 0.5).tolist() == []


@pytest.mark.parametrize("twentieths", range(10, 20))
def test_an_iou_equal_to_its_threshold_is_a_match(twentieths):
    """A match needs the threshold or more, as in COCO: boxes of 20 and ``twentieths`` pixels have such an IoU."""
    expected = [float(i <= twentieths) for i in range(10, 20)]
    detections, objects = [found((0, 0, twentieths, 1, 0, 0.9))], truth([(0, 0, 20, 1, 0)])
    np.testing.assert_array_equal(b.average_precision(detections, objects, 1)[0], expected)


def test_average_precision_by_hand():
    objects = truth([(0, 0, 4, 4, 0), (8, 8, 12, 12, 0)], [(0, 0, 4, 4, 1)])
    right = [found((0, 0, 4, 4, 0, 0.9), (8, 8, 12, 12, 0, 0.8)), found((0, 0, 4, 4, 1, 0.7))]
    assert (b.average_precision(right, objects, 2) == 1).all()
    nothing = [found(), found()]
    assert (b.average_precision(nothing, objects, 2) == 0).all()
    assert np.isnan(b.average_precision(right, objects, 3)[2]).all()
    # A false positive scores higher than the second true positive: precision 1, 1/2, 2/3 at recalls 1/2, 1/2, 1.
    mixed = [found((0, 0, 4, 4, 0, 0.9), (20, 20, 24, 24, 0, 0.8), (8, 8, 12, 12, 0, 0.7)), found()]
    assert b.average_precision(mixed, objects, 1)[0, 0] == pytest.approx(0.5 + 0.5 * 2 / 3)
    # An object found twice counts once; 3 of 4 rows overlap: right to a threshold of 0.75.
    twice = [found((0, 0, 4, 4, 0, 0.9), (0, 0, 4, 4, 0, 0.8), (8, 8, 12, 11, 0, 0.7)), found()]
    low, high = b.average_precision(twice, objects, 1, [0.75, 0.76])[0]
    assert low == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert high == pytest.approx(0.5)


def test_map_is_the_mean_over_classes_with_objects():
    per_class = np.array([[1.0, 0.5], [np.nan, np.nan], [0.5, 0.0]])
    assert b.mean_average_precision(per_class) == (0.75, 0.5)
    assert b.mean_average_precision(per_class[1:2]) == (0.0, 0.0)


def oracle(detections, objects, classes, threshold):
    """Average precision by its definition: one list over all images, the maximum precision at each recall or above."""
    result = []
    for number in range(classes):
        own = [[o[:4] for o in rows if o[4] == number] for rows in objects]
        count = sum(map(len, own))
        listed = [
            (float(score), image, box)
            for image, part in enumerate(detections)
            for box, label, score in zip(*part, strict=True)
            if label == number
        ]
        listed.sort(key=lambda item: -item[0])
        taken, correct = set(), []
        for _, image, box in listed:
            overlaps = [
                (float(b.iou(box[None], np.float32(o)[None])[0, 0]), i)
                for i, o in enumerate(own[image])
                if (image, i) not in taken
            ]
            best = max(overlaps, key=lambda pair: (pair[0], -pair[1]), default=(0.0, -1))
            correct.append(best[0] >= threshold)
            if correct[-1]:
                taken.add((image, best[1]))
        area = 0.0
        for first, is_correct in enumerate(correct):
            if is_correct:
                area += max(sum(correct[: k + 1]) / (k + 1) for k in range(first, len(correct))) / count
        result.append(area if count else np.nan)
    return result


@given(st.integers(0, 2**32 - 1))
def test_average_precision_equals_the_oracle(seed):
    draw = np.random.default_rng(seed)
    objects, detections = [], []
    for _ in range(draw.integers(1, 4)):
        corners = draw.integers(0, 8, (draw.integers(0, 4), 2))
        own = np.concatenate(
            [corners, corners + draw.integers(2, 6, corners.shape), draw.integers(0, 2, (len(corners), 1))], 1
        )
        objects.append(own.astype(np.float32))
        near = own[draw.integers(0, len(own), draw.integers(0, 6))] if len(own) else np.zeros((0, 5))
        moved = near + np.pad(draw.integers(-1, 2, (len(near), 2)), ((0, 0), (0, 3)))
        scores = draw.permutation(len(near)) / 10 + 0.05 + 0.001 * len(detections)
        detections.append(
            Detections(moved[:, :4].astype(np.float32), moved[:, 4].astype(np.int64), scores.astype(np.float32))
        )
    ours = b.average_precision(detections, b.pack(objects), 2, [0.3, 0.5, 0.9])
    for i, threshold in enumerate((0.3, 0.5, 0.9)):
        np.testing.assert_allclose(ours[:, i], oracle(detections, objects, 2, threshold), rtol=1e-12)


def test_many_boxes_in_one_image_take_no_memory_in_all():
    rows = [np.ones((1, 5), np.float32)] * 1999 + [np.ones((10_000, 5), np.float32)]
    message = "image 1999 has 10,000 boxes, and 2,000 images have 11,999: .* would take 381 MiB; RaggedBoxes"
    with pytest.raises(DataError, match=message):
        pack(rows)
    assert pack(rows[-100:]).shape == (100, 10_000, 5)  # 19 MiB
