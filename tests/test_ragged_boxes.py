"""Boxes that are stored without padding are used like the padded array, and trainings with both have the same bits."""

import copy
import gc
import pickle
import tracemalloc

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from numbacnn.data import Dataset
from numbacnn.detection import PADDING, RaggedBoxes, pack, unpack
from numbacnn.runs.provenance import data_digest

COUNTS = (2, 0, 5, 1, 0, 3)
SIZE = 16


@pytest.fixture
def rows(rng):
    """The boxes of six images."""
    corners = rng.integers(0, 8, (sum(COUNTS), 2))
    classes = rng.integers(0, 2, (sum(COUNTS), 1))
    every = np.column_stack([corners, corners + rng.integers(1, 9, corners.shape), classes]).astype(np.float32)
    return np.split(every, np.cumsum(COUNTS)[:-1])


@pytest.fixture
def ragged(rows):
    return RaggedBoxes.of(rows)


@pytest.fixture
def padded(rows):
    array = np.zeros((len(COUNTS), max(COUNTS), 5), np.float32)
    array[..., 4] = PADDING
    for image, boxes in enumerate(rows):
        array[image, : len(boxes)] = boxes
    return array


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (len(COUNTS), SIZE, SIZE, 1), np.uint8)


def test_it_has_the_form_of_the_padded_array(ragged, padded, rows):
    assert (len(ragged), ragged.shape, ragged.ndim, ragged.dtype) == (6, (6, 5, 5), 3, np.float32)
    assert (ragged.size, ragged.nbytes) == (padded.size, padded.nbytes)
    np.testing.assert_array_equal(np.asarray(ragged), padded, strict=True)
    np.testing.assert_array_equal(np.asarray(ragged, np.float64), padded.astype(np.float64), strict=True)
    np.testing.assert_array_equal(pack(rows), padded, strict=True)
    for found, expected in zip(unpack(ragged), rows, strict=True):
        np.testing.assert_array_equal(found, expected, strict=True)
    assert repr(ragged) == "RaggedBoxes of shape (6, 5, 5) with 11 boxes"


@pytest.mark.parametrize(
    "index",
    [0, 2, -1, np.int64(3), (2, 1), (2, slice(0, 2)), (..., 4), (slice(1, 3), 0), (slice(None), slice(None), 4), None],
    ids=repr,
)
def test_indexing_like_the_array(ragged, padded, index):
    np.testing.assert_array_equal(ragged[index], padded[index], strict=True)


@pytest.mark.parametrize(
    "images", [slice(1, 4), slice(None, None, -2), [2, 0, 2], np.arange(6) > 3, slice(0, 0)], ids=str
)
def test_several_images_keep_their_boxes(ragged, padded, images):
    found, expected = ragged[images], padded[images]
    most = found.shape[1]
    np.testing.assert_array_equal(found, expected[:, :most])
    assert (expected[:, most:, 4] == PADDING).all()


def test_an_index_beyond_the_images_is_an_error(ragged):
    for index in (6, -7, [0, 6]):
        with pytest.raises(IndexError):
            ragged[index]


def test_functions_of_numpy_see_the_padded_array(ragged, padded):
    np.testing.assert_array_equal(ragged == PADDING, padded == PADDING)
    np.testing.assert_array_equal(2 * ragged, 2 * padded)
    np.testing.assert_array_equal(np.concatenate([ragged, ragged]), np.concatenate([padded, padded]))
    np.testing.assert_array_equal(list(ragged), padded)
    with pytest.raises(ValueError, match="leave copy=False out"):
        ragged.__array__(copy=False)


def test_copies(ragged, padded):
    for other in (copy.deepcopy(ragged), pickle.loads(pickle.dumps(ragged)), RaggedBoxes.concatenate([ragged])):
        np.testing.assert_array_equal(other, padded)


def test_lists_of_boxes_become_ragged_and_arrays_stay_arrays(images, rows, padded):
    listed, whole = Dataset.from_arrays(images, rows), Dataset.from_arrays(images, padded)
    assert isinstance(listed.labels, RaggedBoxes)
    assert whole.labels is padded
    assert isinstance(Dataset.from_arrays(images, listed.labels).labels, RaggedBoxes)
    np.testing.assert_array_equal(Dataset.from_arrays(images, list(padded)).labels, padded)  # without its padding
    np.testing.assert_array_equal(listed.subset([2, 3]).labels, padded[[2, 3]])
    np.testing.assert_array_equal(listed[2][1], padded[2])
    assert data_digest(listed) == data_digest(whole)


def test_a_digest_of_many_blocks_is_that_of_the_array(images, rows, padded, monkeypatch):
    monkeypatch.setattr("numbacnn.detection.BLOCK_BYTES", 2 * padded[0].nbytes)
    listed = Dataset.from_arrays(images, rows)
    assert len(list(listed.labels.blocks())) == 3
    assert data_digest(listed) == data_digest(Dataset.from_arrays(images, padded))


def test_batches_are_padded_to_their_own_largest_number_of_boxes(images, rows, padded):
    loader = nc.data.DataLoader((images, rows), 2, shuffle=False)
    found = [batch.labels.copy() for batch in loader]
    assert [part.shape for part in found] == [(2, 2, 5), (2, 5, 5), (2, 3, 5)]
    for start, part in zip((0, 2, 4), found, strict=True):
        np.testing.assert_array_equal(part, padded[start : start + 2, : part.shape[1]])


@pytest.mark.parametrize("augment", [None, "hflip,rotate=10"])
def test_trainings_have_the_same_bits(images, rows, padded, augment):
    trained = []
    for labels in (rows, padded):
        model = nc.models.grid_detector((SIZE, SIZE, 1), classes=2, depth=2, width=8)
        data = Dataset.from_arrays(images, labels, ("a", "b"))
        history = model.fit(data, validation=data, epochs=2, batch_size=4, augment=augment)
        trained.append((model.parameters, history.epochs[-1], model.evaluate(data)))
    for name, array in trained[0][0].items():
        np.testing.assert_array_equal(array, trained[1][0][name])
    assert trained[0][1].loss == trained[1][1].loss
    assert trained[0][2] == trained[1][2]


def test_a_folder_with_many_boxes_in_one_image_takes_memory_for_its_boxes_alone(tmp_path):
    """Padded, the labels would take 381 MiB; the boxes, with all that reading them takes, are far below the bound.

    The rest of that is for what the process does besides: modules that are first imported here, garbage that is not yet
    collected, and threads that other tests have left.
    """
    names = [f"{number:04}.png" for number in range(2000)]
    for name in names:
        Image.new("L", (8, 8)).save(tmp_path / name, compress_level=0)
    lines = ["image,x0,y0,x1,y1,class", *[f"{name},1,1,4,5,cat" for name in names], *["0007.png,0,2,8,8,dog"] * 9_999]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    gc.collect()
    tracemalloc.start()
    data = nc.data.load(tmp_path)[0]
    data.split(0.1)
    loader = nc.data.DataLoader(data, 16, prefetch=0)
    seen = sum(int((batch.labels[..., 4] != PADDING).sum()) for batch in loader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == len(data.labels.rows)
    assert peak < 64 << 20


def test_labels_that_are_mostly_padding_are_not_copied_to_a_device():
    labels = RaggedBoxes.of([np.ones((1, 5), np.float32)] * 1999 + [np.ones((10_000, 5), np.float32)])
    assert labels.is_mostly_padding
    assert not labels[:100].is_mostly_padding
