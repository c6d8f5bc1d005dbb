"""What all pictures share: matplotlib, imported late, their colours, images as they are shown, and files."""

import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.files import replacing
from numbacnn.errors import ArgumentError, NumbacnnError

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's
SEQUENTIAL, DIVERGING = "cividis", "PuOr"
FORMATS = (".png", ".svg")


def figure(width: float, height: float) -> Any:
    """An empty Figure of so many inches, which lays itself out. Raises NumbacnnError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NumbacnnError("pictures need matplotlib: pip install 'numbacnn[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def grid(count: int, columns: int, side: float, title: str, caption: float = 0.0) -> tuple[Any, list[Any]]:
    """A figure with ``count`` bare axes in rows of ``columns``, each of ``side`` inches and a caption's height."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    drawing = figure(max(side * columns, 5.0) + 0.2, (side + caption) * rows + 0.6)
    axes = drawing.subplots(rows, columns, squeeze=False).reshape(-1).tolist()
    for ax in axes:
        ax.set_axis_off()
    drawing.suptitle(title)
    return drawing, axes[:count]


def save(drawing: Any, path: str | PathLike[str]) -> None:
    """Writes a figure to a PNG or SVG file, whole or not at all; the same bytes for the same figure.

    Raises ArgumentError where the name ends in neither.
    """
    import matplotlib

    file = checked_path(path)
    metadata = {"Date": None} if file.suffix.lower() == ".svg" else None
    with replacing(file) as out, matplotlib.rc_context({"svg.hashsalt": "numbacnn"}):
        drawing.savefig(out, format=file.suffix[1:].lower(), dpi=150, metadata=metadata)


def checked_path(path: str | PathLike[str]) -> Path:
    """The path, or an ArgumentError where it names no kind of file that is written, or lies in no folder."""
    file = Path(path)
    if file.suffix.lower() not in FORMATS:
        raise ArgumentError(f"{file}: name a file that ends in .png or .svg")
    if not file.parent.is_dir():
        raise ArgumentError(f"{file}: there is no folder {file.parent}")
    return file


def plain(text: str, longest: int = 200) -> str:
    """Text as it is, or its first part where it is longer: a dollar sign starts no formula."""
    shown = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return shown.replace("$", r"\$")


def show_image(ax: Any, image: NDArray[Any]) -> None:
    """An image (H, W, C): grey of 1 channel, colours of 3, else the mean of the channels; floats span their range."""
    shown = image if image.shape[2] in (1, 3) else image.mean(axis=2, keepdims=True)
    if shown.dtype != np.uint8:
        low, high = float(shown.min()), float(shown.max())
        shown = (shown - low) / ((high - low) or 1.0)
    white = 255 if shown.dtype == np.uint8 else 1.0
    if shown.shape[2] == 1:
        ax.imshow(shown[..., 0], cmap="gray", vmin=0, vmax=white, interpolation="nearest")
    else:
        ax.imshow(shown, interpolation="nearest")


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``count``, spread evenly, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})
