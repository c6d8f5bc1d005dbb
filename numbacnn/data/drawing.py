"""Pictures of predictions: an image with its classes below, its mask over it, or its boxes in it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.fonts import font
from numbacnn.data.palette import class_colors, luminance, mask_colors
from numbacnn.detection import Detections

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Picture = NDArray[np.uint8]

MIN_SIDE, MAX_SIDE = 320, 1280  # of the longer side; smaller images are enlarged by a whole factor
MAX_LEGEND = 12  # classes
MAX_NAME = 40  # characters of a class name
TEXT, SMALL_TEXT = 15, 12
LINE = 20  # pixels from one line of text to the next
PAPER, INK = (255, 255, 255), (0, 0, 0)
_DARK = 128  # luma of colors on which white text is readable


def classified(image: Picture, classes: Sequence[tuple[str, float]]) -> Picture:
    """Draw class names and probabilities below an image (H, W, 3)."""
    canvas, _ = _resized(image)
    lines = [(None, f"{_short(name)}  {100 * probability:.1f} %") for name, probability in classes]
    return _with_lines(canvas, lines)


def segmented(image: Picture, mask: NDArray[np.integer], names: Sequence[str]) -> Picture:
    """Blend the colors of a mask (H, W) with an image (H, W, 3), except of class 0, and list the classes below.

    The pixels next to other classes have the color of their class alone.
    """
    colors = mask_colors(len(names))
    mixed = np.where((mask > 0)[..., None], image // 2 + colors[mask] // 2, image).astype(np.uint8)
    border = _borders(mask) & (mask > 0)
    mixed[border] = colors[mask[border]]
    canvas, _ = _resized(mixed)
    counts = np.bincount(mask.reshape(-1), minlength=len(names)) / mask.size
    shown = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]][:MAX_LEGEND]
    lines = [(_color(colors[i]), f"{_short(names[i])}  {100 * counts[i]:.1f} %") for i in shown]
    return _with_lines(canvas, lines)


def detected(image: Picture, found: Detections, names: Sequence[str]) -> Picture:
    """Draw boxes, in pixels of an image (H, W, 3), in the colors of their classes, with names and scores."""
    from PIL import ImageDraw

    canvas, scale = _resized(image)
    draw, colors = ImageDraw.Draw(canvas), class_colors(len(names))
    boxes = [tuple(float(edge) * scale for edge in box) for box in found.boxes]
    for (x0, y0, x1, y1), label in zip(boxes, found.classes, strict=True):
        draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=_color(colors[label]), width=3)
    placed = list[tuple[float, ...]]()
    for box, label, score in zip(boxes, found.classes, found.scores, strict=True):
        text = f"{_short(names[label])} {100 * score:.0f} %"
        placed.append(_tag(draw, canvas.size, box, text, _color(colors[label]), placed))
    lines = [(_color(colors[i]), _short(names[i])) for i in sorted(set(map(int, found.classes)))[:MAX_LEGEND]]
    return _with_lines(canvas, lines or [(None, "nothing found")])


def with_captions(picture: Picture, names: Sequence[str], margin: int) -> Picture:
    """Write names, each cut off at its column, below a picture whose columns are equally wide inside a margin."""
    from PIL import Image, ImageDraw

    face = font(names, SMALL_TEXT)
    canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + LINE), PAPER)
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw, width = ImageDraw.Draw(canvas), (picture.shape[1] - margin) / max(len(names), 1)
    for column, name in enumerate(names):
        shown = name
        while len(shown) > 1 and draw.textlength(shown, font=face) > width - margin:
            shown = f"{shown.removesuffix('…')[:-1]}…"
        draw.text((margin + round(column * width), picture.shape[0]), shown, fill=INK, font=face)
    return np.asarray(canvas)


def with_legend(picture: Picture, classes: Sequence[tuple[NDArray[np.uint8], str]]) -> Picture:
    """List the colors and names of classes below a picture."""
    from PIL import Image

    return _with_lines(Image.fromarray(picture), [(_color(color), _short(name)) for color, name in classes])


def _borders(mask: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which pixels have a neighbor of another class, of the four."""
    found = np.zeros(mask.shape, np.bool_)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found


def _tag(
    draw: "ImageDraw",
    size: tuple[int, int],
    box: tuple[float, ...],
    text: str,
    color: tuple[int, int, int],
    placed: Sequence[tuple[float, ...]],
) -> tuple[float, float, float, float]:
    """Write a text above, below or in a box, in the image, and where no other text is if possible; return its area."""
    face = font([text], TEXT)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=face)
    width, height = right - left + 6, bottom - top + 6
    x = min(max(box[0], 0), max(size[0] - width, 0))
    tops = (box[1] - height, box[3], box[1], box[3] - height)
    areas = [(x, y, x + width, y + height) for y in tops if y >= 0 and y + height <= size[1]] or [
        (x, 0.0, x + width, float(height))
    ]
    area = next((each for each in areas if not any(_overlap(each, other) for other in placed)), areas[0])
    draw.rectangle(area, fill=color)
    ink = PAPER if luminance(np.array(color)) < _DARK else INK
    draw.text((area[0] + 3 - left, area[1] + 3 - top), text, fill=ink, font=face)
    return area


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _with_lines(image: "Image", lines: Sequence[tuple[tuple[int, int, int] | None, str]]) -> Picture:
    """Return an image with lines of text below it, each after a square of its color if it has one."""
    from PIL import Image, ImageDraw

    face = font([text for _, text in lines], TEXT)
    measure = ImageDraw.Draw(image)
    width = max(image.width, *(int(measure.textlength(text, font=face)) + LINE + 12 for _, text in lines))
    canvas = Image.new("RGB", (width, image.height + LINE * len(lines) + 8), PAPER)
    canvas.paste(image, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for row, (color, text) in enumerate(lines):
        y = image.height + 4 + LINE * row
        if color is not None:
            draw.rectangle((6, y + 3, 18, y + 15), fill=color, outline=INK)
        draw.text((6 if color is None else 24, y), text, fill=INK, font=face)
    return np.asarray(canvas)


def _resized(image: Picture) -> tuple["Image", float]:
    """Return an image (H, W, 3) in a size to look at, and its scale."""
    from PIL import Image

    found = Image.fromarray(image)
    longest = max(found.size)
    scale: float = -(-MIN_SIDE // longest) if longest < MIN_SIDE else min(1.0, MAX_SIDE / longest)
    size = max(1, round(found.width * scale)), max(1, round(found.height * scale))
    return found.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BILINEAR), scale


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def _color(color: NDArray[np.uint8]) -> tuple[int, int, int]:
    red, green, blue = color.tolist()
    return red, green, blue
