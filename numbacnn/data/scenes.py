"""Generated scenes: objects from a set of images, rotated, scaled and placed on clutter, with masks or boxes.

A scene depends only on the seed, its index and the objects, so that the first hundred are the same for any count.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import choose, whole
from numbacnn._checks.names import checks_call
from numbacnn.data.dataset import Dataset, Images
from numbacnn.data.labels import BOXES, CLASSES, MASKS, kind_of
from numbacnn.detection import areas, intersections
from numbacnn.engine.device import get_device
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

BACKGROUND = "background"
SIZE = 64  # pixels of a side
MIN_SIZE = 16
MAX_OBJECTS = 5
SIDE = 28  # of an object's image in a scene of 64 pixels, at scale 1
SCALES = (0.75, 1.3)
DEGREES = 20.0
INK, GROUND = (0.65, 1.0), (0.0, 0.3)  # brightness
NOISE = 0.03  # standard deviation
PIECES, PIECE = 5, 9  # clutter: patches of objects, and their sides
MAX_COVERED = 0.3  # of an object's box by another's
TRIES = 12  # positions tried for an object
CHUNK = 512  # scenes generated together


class _Object(NamedTuple):
    """An object to draw: its number in the source, its transform, and positions to try as fractions of the room."""

    number: int
    scale: float
    angle: float
    ink: float
    positions: Float64


class _Placed(NamedTuple):
    """An object in a scene: its number in the source, its box, and its pixels in the box."""

    number: int
    box: Float32
    inside: NDArray[np.bool_]


class _Sketch(NamedTuple):
    """A scene before its objects are painted."""

    ground: Float64
    objects: list[_Object]


@checks_call
def make_scenes(
    source: Dataset, count: int, labels: str, *, size: int = SIZE, max_objects: int = MAX_OBJECTS, seed: int = 0
) -> Dataset:
    """Generate gray scenes, size × size, of 1 to ``max_objects`` objects on a cluttered background.

    Objects are scaled, rotated by up to 20 degrees, and may overlap: a later one hides up to a third of the box of an
    earlier one.

    Args:
        source: 8-bit gray images with one object each, bright on dark.
        count: number of scenes.
        labels: "masks", the class of each pixel with 0 for the background; or "boxes" around all pixels of each
            object, including those that others hide.
        size: side of a scene in pixels.
        max_objects: maximum number of objects.
        seed: of all random choices.

    Raises:
        ArgumentError: a number or the source is not valid.
    """
    whole(count, "count"), whole(size, "size", MIN_SIZE), whole(max_objects, "max_objects"), whole(seed, "seed", 0)
    make_label = choose("labels", labels, {MASKS: _mask, BOXES: _boxes})
    if source.images.shape[3] != 1 or source.images.dtype != np.uint8 or kind_of(source.labels) != CLASSES:
        raise ArgumentError("scenes are made of 8-bit gray images, each with a class")
    images, found = np.empty((count, size, size, 1), np.uint8), list[NDArray[Any]]()
    for first in range(0, count, CHUNK):
        indices = range(first, min(first + CHUNK, count))
        sketches = [_sketch(source, seed, index, size, max_objects) for index in indices]
        shapes = iter(_shapes(source, [item for sketch in sketches for item in sketch.objects], size))
        for index, sketch in zip(indices, sketches, strict=True):
            placed = _paint(images[index, ..., 0], sketch, [next(shapes) for _ in sketch.objects])
            found.append(make_label(placed, np.asarray(source.labels), size))
    if labels == MASKS:
        scenes = Dataset.from_arrays(images, np.stack(found), (BACKGROUND, *source.classes))
    else:
        scenes = Dataset.from_arrays(images, found, source.classes)
    return replace(scenes, strokes=source.strokes)


def _mask(placed: Sequence[_Placed], labels: NDArray[np.int64], size: int) -> NDArray[Any]:
    mask = np.zeros((size, size), np.uint8)
    for number, box, inside in placed:
        x0, y0, x1, y1 = box.astype(int)
        mask[y0:y1, x0:x1][inside] = 1 + labels[number]
    return mask


def _boxes(placed: Sequence[_Placed], labels: NDArray[np.int64], size: int) -> NDArray[Any]:
    return np.array([(*item.box, labels[item.number]) for item in placed], np.float32).reshape(-1, 5)


def _sketch(source: Dataset, seed: int, index: int, size: int, max_objects: int) -> _Sketch:
    """Draw all random numbers of a scene."""
    draw = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
    objects = [
        _Object(
            int(draw.random() * len(source)),
            draw.uniform(*SCALES) * size / SIZE * SIDE / max(source.images.shape[1:3]),
            np.radians(draw.uniform(-DEGREES, DEGREES)),
            draw.uniform(*INK),
            draw.random((TRIES, 2)),
        )
        for _ in range(1 + int(draw.random() * max_objects))
    ]
    return _Sketch(_ground(draw, source.images, size), objects)


def _ground(draw: np.random.Generator, images: Images, size: int) -> Float64:
    """Return a background of smooth light and shade, patches of objects, and noise."""
    knots = draw.uniform(*GROUND, (5, 5))
    weights = np.maximum(0, 1 - np.abs(np.linspace(0, 4, size)[:, None] - np.arange(5)))
    ground: Float64 = weights @ knots @ weights.T
    height, width = images.shape[1:3]
    for _ in range(PIECES):
        u = draw.random(6)
        top, left = int(u[1] * (height - PIECE + 1)), int(u[2] * (width - PIECE + 1))
        piece = images[int(u[0] * len(images)), top : top + PIECE, left : left + PIECE, 0] / 255
        row, column = int(u[3] * (size - PIECE + 1)), int(u[4] * (size - PIECE + 1))
        part = ground[row : row + PIECE, column : column + PIECE]
        part += piece * ((0.3 + 0.4 * u[5]) - part)
    return ground + NOISE * draw.standard_normal((size, size))


def _shapes(source: Dataset, objects: Sequence[_Object], size: int) -> Float32:
    """Return the opacity, 0 to 1, of each object, rotated and scaled about the center: k × side × side."""
    height, width = source.images.shape[1:3]
    side = min(size, int(np.ceil(np.hypot(SIDE, SIDE) * SCALES[1] * size / SIZE)))  # of the largest object
    matrices = np.empty((len(objects), 6), np.float32)
    for matrix, item in zip(matrices, objects, strict=True):
        cos, sin = np.cos(item.angle) / item.scale, np.sin(item.angle) / item.scale
        middle = (side - 1) / 2
        matrix[:] = (
            *(cos, -sin, (width - 1) / 2 - (cos - sin) * middle),
            *(sin, cos, (height - 1) / 2 - (sin + cos) * middle),
        )
    # The kernel's input and output have the same size: objects are in the top left corner of theirs.
    room = max(side, height, width) + 1
    x = np.zeros((len(objects), room, room, 1), np.float32)
    x[:, :height, :width] = source.images[[item.number for item in objects]] / np.float32(255)
    y = np.empty_like(x)
    with engine_lock:
        get_device("cpu").kernels.warp_bilinear(y, x, matrices, np.empty((0, 0), np.float32), 0.0)
    return y[:, :side, :side, 0]


def _paint(image: NDArray[np.uint8], sketch: _Sketch, shapes: Sequence[Float32]) -> list[_Placed]:
    """Write the image. An object is left out if it would cover too much of another one at all its positions."""
    canvas, size, placed = sketch.ground, len(image), list[_Placed]()
    for item, shape in zip(sketch.objects, shapes, strict=True):
        inside = shape > 0.5
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not len(rows):
            continue
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        height, width = inside[part].shape
        corners = (item.positions * (size - width + 1, size - height + 1)).astype(np.int64)
        candidates = np.concatenate([corners, corners + np.array([width, height])], axis=1).astype(np.float32)
        earlier = np.array([other.box for other in placed], np.float32).reshape(-1, 4)
        allowed = MAX_COVERED * np.minimum(areas(candidates)[:, None], areas(earlier))
        free = np.flatnonzero((intersections(candidates, earlier) <= allowed).all(axis=1))
        if len(free):
            box = candidates[free[0]]
            x0, y0, x1, y1 = box.astype(int)
            canvas[y0:y1, x0:x1] += shape[part] * (item.ink - canvas[y0:y1, x0:x1])
            placed.append(_Placed(item.number, box, inside[part]))
    image[:] = np.rint(255 * canvas.clip(0, 1))
    return placed
