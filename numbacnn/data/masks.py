"""Masks as people save them. What their values mean is decided over a whole set.

- Class numbers are taken as they are, and 255 next to them is void, as in Pascal VOC.
- A few gray levels, such as 0 and 255 or 0, 128 and 255, are classes in ascending order. Values in between, from JPEG
  or from soft edges, belong to the nearest level.
- A palette is read by index if all files agree on its colors, otherwise by color.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.images import MaskFile
from numbacnn.data.listing import Color
from numbacnn.errors import DataError

Named = TypeVar("Named", bound=Hashable)  # what errors name a mask by, such as its file
VOID = 255
MAX_CLASSES = 64  # that are not named in a file
_VOID_NAMES = {"void", "unlabeled", "unlabelled", "ignore", "ignored"}
_SPACING = 32  # between gray levels that are not class numbers
_REACH, _CORE = 24, 3  # of a level among values changed by JPEG, and of its peak
_MIN_SHARE, _MAX_REST = 0.0005, 0.1  # of the pixels: at a level, and far from all levels
_SHOWN = 8  # values of a histogram in a message


@dataclass
class Encoded:
    """Masks as class numbers.

    Attributes:
        masks: (height, width) each, with ``ignore_index`` for void.
        classes: their names.
        ignore_index: the label of pixels that do not count, or None.
        notes: how the values were read, one line each.
    """

    masks: list[NDArray[Any]]
    classes: Sequence[str]
    ignore_index: int | None = None
    notes: list[str] = field(default_factory=list)


def encode(
    files: Mapping[Named, MaskFile], names: Sequence[str], colors: Mapping[Color, str], ignore: int | None
) -> Encoded:
    """Decide what the values of all masks mean.

    Args:
        files: the masks by file, or by whatever names them in errors.
        names: names of the classes by number, or none.
        colors: names of the classes by color, or none.
        ignore: the value to ignore, by default 255 next to class numbers.

    Raises:
        DataError: there are too many classes, or a number that no class has.
    """
    if colors or not _are_numbers(files.values()):
        found = [_to_colors(file) for file in files.values()]
        grays = [_to_grays(part) for part in found]
        if colors or any(part is None for part in grays):
            return _encode_colors(found, names, colors)
        numbers = [part for part in grays if part is not None]
    else:
        numbers = [file.pixels for file in files.values()]
    masks = _with_white(numbers, [file.mode == "1" for file in files.values()])
    lossy = any(file.format == "JPEG" for file in files.values())
    return _encode_numbers(dict(zip(files, masks, strict=True)), names, ignore, lossy)


# -- numbers ----------------------------------------------------------------------------------------------------------


def _encode_numbers(
    masks: Mapping[Named, NDArray[Any]], names: Sequence[str], ignore: int | None, lossy: bool
) -> Encoded:
    histogram = _histogram(masks.values())
    values = np.flatnonzero(histogram)
    counted = values[values != ignore]
    void = ignore if ignore is not None else VOID
    numbers = counted[counted != void]
    most = len(names) or MAX_CLASSES
    levels = None if len(names) > VOID else _gray_levels(histogram, counted, lossy, len(names))
    if levels is not None and (not names or len(levels) <= len(names)):
        return _encode_levels(list(masks.values()), levels, names, ignore)
    if len(numbers) and numbers.max() < most and not lossy:
        classes = names or [str(number) for number in range(numbers.max() + 1)]
        return _with_void(list(masks.values()), classes, void, histogram)
    if names and not lossy:
        file, mask = next((file, mask) for file, mask in masks.items() if np.isin(numbers[numbers >= most], mask).any())
        wrong = min(number for number in numbers if number >= most and number in mask)
        raise DataError(f"{file}: holds class {wrong}; the {len(names)} classes go from 0 to {len(names) - 1}")
    advice = "JPEG changes class numbers: save masks as PNG" if lossy else "if they are, name them in classes.txt"
    raise DataError(f"masks hold {len(values)} values, {_shown(histogram)}; these are not classes; {advice}")


def _gray_levels(histogram: NDArray[Any], values: NDArray[Any], lossy: bool, names: int) -> NDArray[Any] | None:
    """Return the levels in ascending order if the values are not class numbers."""
    far_apart = len(values) > 1 and np.diff(values).min() >= _SPACING
    if far_apart and not (names and values.max() < names) and len(values) <= MAX_CLASSES:
        return values
    if not lossy and len(values) and values[values != VOID].max(initial=0) < max(names, MAX_CLASSES):
        return None
    return _peaks(histogram) if len(histogram) <= 256 else None


def _peaks(histogram: NDArray[Any]) -> NDArray[Any] | None:
    """Return the gray levels that almost all pixels are close to, or None if there are no such levels."""
    rest, levels, total = histogram.copy(), list[int](), histogram.sum()
    while rest.any():
        peak = int(rest.argmax())
        around = slice(max(0, peak - _REACH), peak + _REACH + 1)
        core = rest[max(0, peak - _CORE) : peak + _CORE + 1].sum()
        if rest[around].sum() < _MIN_SHARE * total or 2 * core < rest[around].sum():
            break
        levels.append(peak)
        rest[around] = 0
    return np.array(sorted(levels)) if len(levels) > 1 and rest.sum() <= _MAX_REST * total else None


def _encode_levels(
    masks: list[NDArray[Any]], levels: NDArray[Any], names: Sequence[str], ignore: int | None
) -> Encoded:
    """Number the levels in ascending order; other values belong to the nearest."""
    most = max(int(mask.max()) for mask in masks)
    table = np.abs(np.arange(most + 1)[:, None] - levels).argmin(axis=1).astype(np.uint8)
    if ignore is not None and ignore < len(table):
        table[ignore] = VOID
    last = len(levels) - 1
    if last == 1:
        note = f"masks hold only {levels[0]} and {levels[1]}: {levels[1]} is taken as class 1"
    else:
        note = f"masks hold the gray levels {', '.join(map(str, levels))}: they are taken as classes 0 to {last}"
    classes = names or [str(number) for number in range(last + 1)]
    return Encoded([table[mask] for mask in masks], classes, None if ignore is None else VOID, [note])


def _with_void(masks: list[NDArray[Any]], classes: Sequence[str], void: int, histogram: NDArray[Any]) -> Encoded:
    """Take numbers as they are, and ``void`` as the label that does not count, if it occurs."""
    count = histogram[void] if void < len(histogram) else 0
    if not count or void < 0:
        return Encoded(masks, classes)
    label = VOID if len(classes) <= VOID else -1
    note = f"{void} is void: {100 * count / histogram.sum():.1f} % of the pixels do not count"
    typed = [mask if label == VOID else mask.astype(np.int64) for mask in masks]
    return Encoded([np.where(mask == void, label, mask) for mask in typed], classes, label, [note])


def _with_white(masks: Sequence[NDArray[Any]], bilevel: Sequence[bool]) -> list[NDArray[Any]]:
    """Make two-class masks consistent: white is 255 in some files and 1 in others, if no file has both."""
    others = [mask for mask, single in zip(masks, bilevel, strict=True) if not single]
    values = {int(value) for mask in others for value in np.unique(mask)}
    mixed = {1, 255} <= values <= {0, 1, 255} and not any((mask == 1).any() and (mask == 255).any() for mask in others)
    if not mixed and not (any(bilevel) and 255 in values <= {0, 255}):
        return list(masks)
    return [np.where(mask == 1, np.uint8(255), mask) for mask in masks]


def _histogram(masks: Iterable[NDArray[Any]]) -> NDArray[np.int64]:
    """Count each value over all masks."""
    counts = [np.bincount(mask.reshape(-1)) for mask in masks]
    total = np.zeros(max(map(len, counts)), np.int64)
    for count in counts:
        total[: len(count)] += count
    return total


def _shown(histogram: NDArray[Any]) -> str:
    """Format the most frequent values with their fractions of the pixels."""
    order = [value for value in np.argsort(-histogram, kind="stable")[:_SHOWN] if histogram[value]]
    shares = [f"{value} ({100 * histogram[value] / histogram.sum():.1f} %)" for value in order]
    return ", ".join(shares) + (" …" if np.count_nonzero(histogram) > len(order) else "")


# -- colors -----------------------------------------------------------------------------------------------------------


def _are_numbers(files: Iterable[MaskFile]) -> bool:
    """Return whether the pixels are numbers: gray levels, or indices of palettes that all files agree on."""
    known: dict[int, Color] = {}
    for file in files:
        if file.pixels.ndim == 3:
            return False
        if file.palette is not None:
            used = {int(index): tuple(file.palette[index].tolist()) for index in np.unique(file.pixels)}
            if file.format == "GIF" or any(known.get(index, color) != color for index, color in used.items()):
                return False  # programs that write GIF leave out the colors that a file does not use
            known |= used
    return True


def _to_colors(file: MaskFile) -> NDArray[Any]:
    """Return the color of each pixel as one number, red · 2¹⁶ + green · 2⁸ + blue."""
    pixels = file.pixels if file.palette is None else file.palette[file.pixels]
    channels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return np.asarray(channels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1]))


def _to_grays(colors: NDArray[Any]) -> NDArray[Any] | None:
    """Return gray levels, or None if there is another color."""
    grays = colors & 255
    return grays if (colors == grays * 0x10101).all() else None


def _encode_colors(masks: list[NDArray[Any]], names: Sequence[str], colors: Mapping[Color, str]) -> Encoded:
    """Number the colors: in the order of ``colors``, or by red, green and blue."""
    found, counts = np.unique(np.concatenate([mask.reshape(-1) for mask in masks]), return_counts=True)
    listed = {red << 16 | green << 8 | blue: name for (red, green, blue), name in colors.items()}
    unknown = [_hex(color) for color in found if listed and color not in listed]
    if unknown or (not listed and len(found) > (len(names) or MAX_CLASSES)):
        order = np.argsort(-counts, kind="stable")[:_SHOWN]
        shares = ", ".join(f"{_hex(found[i])} ({100 * counts[i] / counts.sum():.1f} %)" for i in order)
        problem = f"{unknown[0]} has no name" if unknown else "these are not classes; save masks as PNG"
        raise DataError(f"masks hold {len(found)} colors, {shares}{' …' if len(found) > _SHOWN else ''}; {problem}")
    void = [color for color, name in listed.items() if name.lower() in _VOID_NAMES]
    order_of = {color: number for number, color in enumerate(color for color in listed or found if color not in void)}
    table = np.array([order_of.get(int(color), VOID) for color in found], np.uint8)
    classes = [listed[color] for color in order_of if listed] or list(names) or [_hex(color) for color in order_of]
    shown = ", ".join(map(_hex, list(order_of)[:_SHOWN]))
    note = f"masks are read by color: {shown} are classes 0 to {len(order_of) - 1}"
    encoded = [table[np.searchsorted(found, mask)] for mask in masks]
    return Encoded(encoded, classes, VOID if void else None, [note])


def _hex(color: int) -> str:
    return f"#{int(color):06x}"
