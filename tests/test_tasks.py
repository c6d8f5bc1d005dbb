"""Segmentation and detection through the library: training, decoding, metrics, copies, and rejected arguments."""

import copy

import numpy as np
import pytest
from engine import assert_close, generator_of

import numbacnn as nc
from numbacnn.data import Dataset
from numbacnn.detection import pack, unpack
from numbacnn.kernels.reference import launchers as reference
from numbacnn.losses.base import evaluate
from numbacnn.metrics import intersection_over_union, mean_iou
from numbacnn.tasks import Detection, Segmentation, task_of
from numbacnn.tasks.detection import DetectionLoss, encode

SIZE = (24, 32)


def random_boxes(draw, images, classes=3, max_boxes=3):
    """Draw boxes (k, 5) of each image, with corners at whole pixels."""
    found = []
    for _ in range(images):
        k = draw.integers(0, max_boxes + 1)
        x0, y0 = draw.integers(0, SIZE[1] - 8, k), draw.integers(0, SIZE[0] - 8, k)
        edges = [x0, y0, x0 + draw.integers(4, 9, k), y0 + draw.integers(4, 9, k), draw.integers(0, classes, k)]
        found.append(np.stack(edges, 1).astype(np.float32))
    return found


def drawn(kind, count=40, seed=0):
    """Draw small squares of two brightness classes on noise, as masks or boxes."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 60, (count, 16, 16, 1)).astype(np.uint8)
    masks, boxes = np.zeros((count, 16, 16), np.uint8), []
    for image, mask in zip(images, masks, strict=True):
        label, (top, left) = draw.integers(0, 2), draw.integers(0, 9, 2)
        part = slice(top, top + 7), slice(left, left + 7)
        image[part] = 130 + 120 * label
        mask[part] = 1 + label
        boxes.append(np.array([[left, top, left + 7, top + 7, label]], np.float32))
    if kind == "masks":
        return Dataset.from_arrays(images, masks, ("ground", "dim", "bright"))
    return Dataset.from_arrays(images, boxes, ("dim", "bright"))


def small(kind):
    if kind == "masks":
        return nc.models.unet((16, 16, 1), classes=3, depth=1, width=8)
    return nc.models.grid_detector((16, 16, 1), classes=2, depth=2, width=8)


KINDS = ("masks", "boxes")
SCORES = {"masks": "mean_iou", "boxes": "map_50"}


@pytest.fixture(scope="module", params=KINDS)
def trained(request):
    """Train on the task; return its kind, the model and the history."""
    kind = request.param
    model = small(kind)
    history = model.fit(
        drawn(kind, 240), validation=drawn(kind, seed=1), optimizer=nc.AdamW(0.01), epochs=12, batch_size=8
    )
    return kind, model, history


def test_it_learns(trained):
    kind, model, history = trained
    found = model.evaluate(drawn(kind, seed=2))
    assert found[SCORES[kind]] > 0.9, found
    assert found["accuracy"] > 0.9
    assert history.epochs[-1].validation_score > 0.9
    assert history.best.score == max(record.validation_score for record in history.epochs)
    assert model.task == {"masks": "segment", "boxes": "detect"}[kind]
    assert model.class_names == drawn(kind).classes


def test_files_and_copies_keep_the_task(trained, tmp_path):
    kind, model, _ = trained
    test = drawn(kind, seed=2)
    model.save(tmp_path / "m.safetensors")
    for other in (nc.load(tmp_path / "m.safetensors"), copy.deepcopy(model)):
        assert other.task == model.task
        assert other.evaluate(test) == model.evaluate(test)
    assert model.replace_head(5).task == model.task
    assert len(model.replace_head(5).class_names) == 5


def test_decoded_predictions(trained):
    kind, model, _ = trained
    test = drawn(kind, seed=2)
    if kind == "masks":
        masks = model.segment(test.images)
        assert masks.dtype == np.uint8
        np.testing.assert_array_equal(masks, model.predict(test.images).argmax(-1))
        assert (masks == test.labels).mean() == pytest.approx(model.evaluate(test)["accuracy"])
        return
    found = model.detect(test.images)
    right = sum(
        len(part.boxes) == 1 and part.classes[0] == rows[0, 4]
        for part, rows in zip(found, unpack(test.labels), strict=True)
    )
    assert right > 0.9 * len(test)
    assert all((part.scores[:-1] >= part.scores[1:]).all() for part in found)
    assert sum(len(part.boxes) for part in model.detect(test.images, score_threshold=0)) > len(test)
    assert not any(len(part.boxes) for part in model.detect(test.images, score_threshold=1))


def test_class_rows_have_the_terms_of_the_means(trained):
    kind, model, _ = trained
    test = drawn(kind, seed=2)
    metrics, _ = model.measure(test)
    rows = metrics[0].class_rows(model.class_names)
    share = {"masks": "IoU", "boxes": "AP@0.5"}[kind]
    assert np.mean([row[share] for row in rows]) == pytest.approx(model.evaluate(test)[SCORES[kind]])
    assert [row["class"] for row in rows] == list(test.classes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_equals_an_uninterrupted_one(kind, tmp_path):
    """Weights agree bit for bit, and so does the history, with an augmentation that moves masks and boxes."""
    options = {
        "validation": drawn(kind, 20, seed=1),
        "batch_size": 16,
        "augment": "rotate=20, scale=0.2, hflip, elastic=4:2, noise=0.05",
        "schedule": "constant",
        "checkpoint_every": 1,
    }
    whole, parts, path = small(kind), small(kind), tmp_path / "c.safetensors"
    history = whole.fit(drawn(kind), optimizer=nc.AdamW(0.01), epochs=2, checkpoint=tmp_path / "whole", **options)
    parts.fit(
        drawn(kind),
        optimizer=nc.AdamW(0.01),
        epochs=2,
        checkpoint=path,
        callbacks=[lambda event: isinstance(event, nc.StepEnd) and (event.epoch, event.step) == (2, 1)],
        **options,
    )
    resumed = small(kind)
    again = resumed.fit(drawn(kind), optimizer=nc.AdamW(0.01), epochs=2, checkpoint=path, resume=True, **options)
    for name, value in whole.store.arrays().items():
        np.testing.assert_array_equal(resumed.store.arrays()[name], value, err_msg=name)
    times = {"seconds": 0, "images_per_second": 0}
    assert [vars(a) | times for a in again.epochs] == [vars(b) | times for b in history.epochs]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_on_any_number_of_threads(kind):
    threads, found = nc.get_num_threads(), []
    try:
        for count in {1, threads}:
            nc.set_num_threads(count)
            model = small(kind)
            model.fit(drawn(kind, 24), optimizer=nc.AdamW(0.01), epochs=1, batch_size=8, augment="rotate=10")
            found.append((model.store.arrays(), model.evaluate(drawn(kind, 8))))
    finally:
        nc.set_num_threads(threads)
    for arrays, measures in found[1:]:
        assert measures == found[0][1]
        for name, value in arrays.items():
            np.testing.assert_array_equal(value, found[0][0][name])


def test_augmentation_in_training_is_that_of_apply():
    masks, boxes = drawn("masks", 6), drawn("boxes", 6)
    chain = nc.augment.get_augmentation("rotate=30, translate=5")
    found = nc.augment.apply(chain, masks.images, masks=masks.labels, boxes=list(boxes.labels[:, :, :4]), epoch=2)
    for data, expected in ((masks, found.masks), (boxes, found.boxes)):
        numbers = np.arange(6)
        images, labels = nc.augment.Augmenter(chain, data)(data.images, data.labels, numbers, seed=0, epoch=2)
        np.testing.assert_array_equal(images, found.images)
        if data is masks:
            np.testing.assert_array_equal(labels, expected)
            continue
        for rows, edges in zip(labels, expected, strict=True):
            kept = rows[:, 4] >= 0
            np.testing.assert_array_equal(rows[kept, :4], edges[kept])


def test_a_box_is_dropped_if_at_most_a_quarter_of_it_is_visible():
    images, chain = np.zeros((3, 16, 16, 1), np.uint8), nc.augment.get_augmentation("crop=8")
    boxes = pack([np.array([[0, 0, 8, 8, 1]], np.float32)] * 3)
    left = []
    for epoch in range(60):
        _, moved = nc.augment.Augmenter(chain)(images, boxes, np.arange(3), seed=0, epoch=epoch)
        edges = nc.augment.apply(chain, images, boxes=list(boxes[:, :, :4]), epoch=epoch).boxes
        for row, edge in zip(moved[:, 0], edges, strict=True):
            area = (edge[0, 2] - edge[0, 0]) * (edge[0, 3] - edge[0, 1])
            left.append((area, row[4]))
    assert {label for area, label in left if area > 16} == {1}
    assert {label for area, label in left if area <= 16} == {-1}


# -- the detector's loss ----------------------------------------------------------------------------------------------


def detection_oracle(x, target, box_weight=2.0, beta=0.1):
    """Return (loss, gradient) in float64: the reference kernel's losses of all cells, divided by the images."""
    losses, dx = np.empty(x[..., 0].size), np.empty(x.shape)
    class_weights = np.ones((1, x.shape[-1] - 5))
    reference.detection(losses, dx, x, target, class_weights, box_weight, beta, 1 / len(x))
    return losses.sum() / len(x), dx


@pytest.mark.parametrize("shape", [(3, 6, 8, 8), (2, 3, 4, 6), (1, 1, 1, 8), (4, 5, 3, 8)], ids=str)
def test_the_detection_loss_and_its_gradient_match_the_oracle(shape):
    draw = generator_of(f"detection {shape}")
    labels = pack(random_boxes(draw, shape[0], shape[3] - 5))
    x = draw.standard_normal(shape).astype(np.float32)
    for options in ({}, {"box_weight": 0.5, "beta": 1.0}):
        loss, target = DetectionLoss(SIZE, **options), encode(labels, shape[1:3], SIZE)
        value, dx = evaluate(loss, x, labels)
        expected, gradient = detection_oracle(x.astype(np.float64), target.astype(np.float64), **options)
        assert value == pytest.approx(expected, rel=1e-5)
        assert_close(dx, gradient, f"{shape} {options}")


def test_the_oracles_gradient_matches_a_central_difference():
    draw = generator_of("detection oracle")
    target = encode(pack(random_boxes(draw, 4)), (6, 8), SIZE).astype(np.float64)
    x, direction, step = draw.standard_normal((4, 6, 8, 8)), draw.standard_normal((4, 6, 8, 8)), 1e-6
    slope = (detection_oracle(x + step * direction, target)[0] - detection_oracle(x - step * direction, target)[0]) / (
        2 * step
    )
    assert slope == pytest.approx((detection_oracle(x, target)[1] * direction).sum(), rel=1e-6)


def test_decoding_the_target_gives_the_boxes_again():
    draw = np.random.default_rng(5)
    rows = random_boxes(draw, 20, max_boxes=1)
    target = encode(pack(rows), (6, 8), SIZE)
    output = np.full((20, 6, 8, 8), -20, np.float32)
    output[..., 0] = np.where(target[..., 0] > 0, 20, -20)
    output[..., 1:5] = target[..., 1:5]
    for image, i, j in np.argwhere(target[..., 0] > 0):
        output[image, i, j, 5 + int(target[image, i, j, 5])] = 20
    for found, row in zip(Detection((*SIZE, 1)).decode(output), rows, strict=True):
        np.testing.assert_allclose(found.boxes, row[:, :4], atol=1e-4)
        np.testing.assert_array_equal(found.classes, row[:, 4])
        np.testing.assert_allclose(found.scores, 1, atol=1e-6)


def test_of_two_objects_in_one_cell_the_smaller_counts():
    both = np.array([[0, 0, 8, 8, 0], [2, 2, 6, 6, 1]], np.float32)
    for rows in (both, both[::-1]):
        target = encode(pack([rows]), (3, 4), SIZE)
        assert (target[..., 0].sum(), target[0, 0, 0, 5]) == (1, 1)


def test_huge_outputs_decode_to_boxes_within_the_image():
    output = np.full((1, 3, 4, 7), 1e30, np.float32)
    found = Detection((*SIZE, 1)).decode(output)[0]
    assert np.isfinite(found.boxes).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= (32, 24)).all()


# -- metrics of segmentation ------------------------------------------------------------------------------------------


def test_iou_of_a_hand_made_confusion_matrix():
    confusion = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    np.testing.assert_allclose(intersection_over_union(confusion), [6 / 9, 3 / 6, np.nan])
    assert mean_iou(confusion) == pytest.approx((6 / 9 + 3 / 6) / 2)


def test_ignored_pixels_count_in_no_measure():
    data = drawn("masks", 4)
    model = small("masks")
    loss = nc.losses.CrossEntropy(ignore_index=0)
    found = model.evaluate(data, loss)
    predicted, counted = model.segment(data.images), data.labels != 0
    assert found["accuracy"] == pytest.approx((predicted == data.labels)[counted].mean())


# -- rejected arguments -----------------------------------------------------------------------------------------------


def test_data_and_methods_of_another_task_are_rejected():
    masks, boxes, classes = drawn("masks", 4), drawn("boxes", 4), nc.data.load("digits")[1].subset([0, 1])
    segmenter, detector = small("masks"), small("boxes")
    rejected = pytest.raises(nc.ArgumentError, match="task is to segment, from masks; the data has boxes")
    with rejected:
        segmenter.fit(boxes)
    with rejected:
        segmenter.evaluate(boxes)
    with pytest.raises(nc.ArgumentError, match="task is to detect, from boxes; the data has masks"):
        detector.fit(masks)
    with pytest.raises(nc.ArgumentError, match="segmentation needs an output for each pixel"):
        nc.models.lenet5((16, 16, 1), classes=3).fit(masks)
    with pytest.raises(nc.ArgumentError, match=r"detection needs an output \(h, w, 5 \+ classes\)"):
        nc.models.lenet5((16, 16, 1), classes=3).fit(boxes)
    with pytest.raises(nc.ArgumentError, match="none of the 4 images has a box"):
        detector.fit(Dataset.from_arrays(boxes.images, [np.zeros((0, 5))] * 4, boxes.classes))
    with pytest.raises(nc.ArgumentError, match="3 classes for a model with 7 outputs"):
        detector.fit(Dataset.from_arrays(boxes.images, boxes.labels, ("a", "b", "c")))
    for kind, model in (("masks", segmenter), ("boxes", detector)):
        with pytest.raises(nc.ArgumentError, match=f"mixup and cutmix cannot mix {kind}"):
            model.fit(drawn(kind, 4), augment="mixup")
        with pytest.raises(nc.ArgumentError, match=f"mixup and cutmix cannot mix {kind}"):
            nc.data.preview(drawn(kind, 4), "cutmix")
    with pytest.raises(nc.ArgumentError, match="use detect"):
        nc.models.grid_detector().predict(np.zeros((1, 64, 64, 1), np.uint8))
    classifier = nc.models.lenet5()
    classifier.fit(classes, epochs=1)
    for predict in (classifier.detect, classifier.segment):
        with pytest.raises(nc.ArgumentError, match="this model's task is to classify"):
            predict(classes.images)
    with pytest.raises(nc.ArgumentError, match="unknown task 'detekt'; did you mean 'detect'"):
        task_of("detekt", (8, 8, 1))


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.zeros((2, 8, 9), int), nc.ArgumentError, "masks are 8×9, but images 8×8; the sizes must be equal"),
        (np.full((2, 8, 8), 3), nc.DataError, "label 3 in image 0 is not a class number; with 2 classes"),
        (
            [[[0, 0, 9.1, 4, 0]], [[0, 0, 1, 1, 0]]],
            nc.DataError,
            r"box 0 of image 0, \(0, 0, 9.1, 4\), exceeds its image of 8×8",
        ),
        ([[[0, 0, 1, 1, 0]], [[4, 0, 4, 4, 0]]], nc.DataError, r"box 0 of image 1, \(4, 0, 4, 4\), is empty"),
        ([[[0, 0, 1, 1, 2]], [[0, 0, 1, 1, 0]]], nc.DataError, "label 2 in image 0 is not a class number"),
        ([[[0, 0, 1, 1, 0.5]], [[0, 0, 1, 1, 0]]], nc.DataError, "label 0.5 in image 0 is not"),
        ([[[0, 0, np.inf, 1, 0]], [[0, 0, 1, 1, 0]]], nc.DataError, "a box of image 0 is not finite"),
        ([[[0, 0, 1, 1]], [[0, 0, 1, 1]]], nc.ArgumentError, r"boxes of image 0 have shape \(1, 4\); pass \(k, 5\)"),
        ([[[0, 0, 1, 1, 0]]], nc.ArgumentError, "2 images but 1 labels"),
    ],
)
def test_labels_that_are_rejected(labels, error, message):
    with pytest.raises(error, match=message):
        Dataset.from_arrays(np.zeros((2, 8, 8), np.uint8), labels, ("a", "b"))


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ({1: "dog", 0: "cat"}, ("cat", "dog")),
        ({"dog": 1, "cat": 0}, ("cat", "dog")),  # torchvision's class_to_idx
        (np.array(["cat", "dog"]), ("cat", "dog")),
        (np.array([3, 5]), ("3", "5")),
        ([0.0, np.float32(0.5)], ("0", "0.5")),
        ([b"cat", b"dog"], ("cat", "dog")),
    ],
)
def test_names_of_classes_become_text_in_their_order(classes, names):
    found = Dataset.from_arrays(np.zeros((2, 8, 8), np.uint8), [0, 1], classes).classes
    assert found == names
    assert all(type(name) is str for name in found)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"cat", "dog"}, "pass a list of names, or a mapping from number to name"),
        ("ab", "classes='ab': pass a list of names"),
        (["a", None], "None cannot be the name of a class"),
        ({1: "a", 2: "b"}, "has nothing for 0"),
        ({"a": 0, "b": 0}, "label 1 at index 1 is not a class number"),
    ],
)
def test_names_of_classes_without_an_order_are_errors(classes, message):
    with pytest.raises(nc.NumbacnnError, match=message):
        Dataset.from_arrays(np.zeros((2, 8, 8), np.uint8), [0, 1], classes)


def test_a_file_of_an_unknown_task_is_rejected(tmp_path):
    model = small("masks")
    model.task = "juggle"
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(nc.ModelFileError, match="unknown task 'juggle'"):
        nc.load(tmp_path / "m.safetensors")
    assert isinstance(task_of("segment", (8, 8, 1)), Segmentation)
    model.task = "detect"
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(nc.ModelFileError, match=r"needs an output \(h, w, 5 \+ classes\), not \(16, 16, 3\)"):
        nc.load(tmp_path / "m.safetensors")


def test_boxes_that_exceed_their_image_by_rounding_are_cut_off():
    given = np.array([[[-0.2, 0, 8.5, 4, 0], [1, 1, 3, 9, 1]], [[2, 2, 4, 4, 0], [0, 0, 0, 0, -1]]], np.float32)
    data = Dataset.from_arrays(np.zeros((2, 8, 8), np.uint8), given, ("a", "b"))
    expected = [[[0, 0, 8, 4, 0], [1, 1, 3, 8, 1]], [[2, 2, 4, 4, 0], [0, 0, 0, 0, -1]]]
    np.testing.assert_array_equal(data.labels, expected)
    assert given[0, 0, 2] == 8.5
