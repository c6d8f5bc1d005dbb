"""Figures, colors, images and files, for all plots. matplotlib is imported on first use."""

import io
import math
import warnings
from functools import lru_cache, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import check_instance, path_of, shown
from numbacnn._checks.names import checks_call
from numbacnn.data.dataset import Dataset
from numbacnn.data.files import replacing
from numbacnn.data.fonts import PROBE, font_file, lacking, note_on_fonts
from numbacnn.errors import ArgumentError, NumbacnnError, escaped
from numbacnn.model import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"  # of Okabe and Ito
SEQUENTIAL, DIVERGING = "cividis", "PuOr"
FORMATS = (".png", ".svg")


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty Figure of ``width`` × ``height`` inches with automatic layout.

    Raises:
        NumbacnnError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NumbacnnError("plots need matplotlib: pip install 'numbacnn[plot]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    vars(figure)["_repr_png_"] = partial(_png, figure)  # IPython asks for it, and does not know a figure without pyplot
    return figure


def _png(figure: "Figure") -> bytes:
    """Return the PNG image that a notebook shows."""
    out = io.BytesIO()
    readable(figure).savefig(out, format="png", dpi=100)
    return out.getvalue()


def grid(count: int, columns: int, side: float, title: str, caption: float = 0.0) -> "tuple[Figure, list[Axes]]":
    """Return a figure with ``count`` axes for images, ``columns`` per row, each of ``side`` inches and a caption."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = new_figure(max(side * columns, 5.0) + 0.2, (side + caption) * rows + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1).tolist()
    for ax in axes:
        ax.set_axis_off()
    figure.suptitle(title)
    return figure, axes[:count]


@checks_call
def save(figure: "Figure", path: str | PathLike[str]) -> None:
    """Write a figure to a PNG or SVG file, completely or not at all; the same figure gives the same bytes.

    Raises:
        ArgumentError: the name does not end in .png or .svg, or its folder does not exist.
    """
    import matplotlib
    from matplotlib.figure import Figure

    check_instance(figure, Figure, "save", "what a function of nc.plots returns")
    file = checked_path(path)
    metadata = {"Date": None} if file.suffix.lower() == ".svg" else None
    with replacing(file) as out, matplotlib.rc_context({"svg.hashsalt": "numbacnn"}):
        readable(figure).savefig(out, format=file.suffix[1:].lower(), dpi=150, metadata=metadata)


def checked_path(path: str | PathLike[str]) -> Path:
    """Return the path of a plot. Raises ArgumentError if it has another suffix, or no folder to be in."""
    file = path_of(path, "plot")
    if file.suffix.lower() not in FORMATS:
        raise ArgumentError(f"{file}: choose a file name that ends in .png or .svg")
    if not file.parent.is_dir():
        raise ArgumentError(f"{file}: there is no folder {file.parent}")
    return file


def plain(text: str, max_length: int = 200) -> str:
    """Shorten a text if it is too long, and escape controls, and dollar signs, which would start a formula.

    Characters that no font has, neither matplotlib's nor an installed one, become squares, with a warning.
    """
    text = escaped(text if isinstance(text, str) else shown(text))
    short = text if len(text) <= max_length else f"{text[: max_length - 1]}…"
    missing = _fallback(short)[1]
    if missing:
        warnings.warn(note_on_fonts(missing), stacklevel=3)
    return "".join("□" if character in missing else character for character in short).replace("$", r"\$")


def readable(figure: "Figure") -> "Figure":
    """Give the texts of a figure a font that has the characters that matplotlib's lacks, if one is installed."""
    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.text import Text

    for ax in figure.axes:
        ax.get_xticklabels(), ax.get_yticklabels()  # makes them
    for text in figure.findobj(Text):
        file, _ = _fallback(text.get_text())
        if file is not None:
            fontManager.addfont(str(file))
            text.set_fontfamily([*text.get_fontfamily(), FontProperties(fname=str(file)).get_name()])
    return figure


@lru_cache(maxsize=1024)
def _fallback(text: str) -> tuple[Path | None, str]:
    """Return an installed font for the characters that matplotlib's own lacks, and those that neither has."""
    if text.isascii():
        return None, ""
    from matplotlib.font_manager import FontProperties, findfont
    from PIL.ImageFont import truetype

    missing = lacking(truetype(findfont(FontProperties()), PROBE), "".join(sorted(set(text))))
    file = font_file(missing) if missing else None
    return file, missing if file is None else lacking(truetype(str(file), PROBE), missing)


def show_image(ax: "Axes", image: NDArray[Any]) -> None:
    """Show an image (H, W, C): gray or RGB, else the mean of the channels. Floats are scaled to their range."""
    pixels = image if image.shape[2] in (1, 3) else image.mean(axis=2, keepdims=True)
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = (pixels - low) / ((high - low) or 1.0)
    white = 255 if pixels.dtype == np.uint8 else 1.0
    if pixels.shape[2] == 1:
        ax.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=white, interpolation="nearest")
    else:
        ax.imshow(pixels, interpolation="nearest")


def check_model(model: object, owner: str) -> None:
    """Raise ArgumentError unless ``model`` is one."""
    check_instance(model, Model, owner, "a model of numbacnn, such as nc.load(path)")


def check_dataset(dataset: object, owner: str) -> None:
    """Raise ArgumentError unless ``dataset`` is one."""
    check_instance(dataset, Dataset, owner, "nc.data.Dataset.from_arrays")


def evenly(count: int, max_count: int) -> list[int]:
    """Return at most ``max_count`` of the numbers below ``count``, evenly spaced, including the first and the last."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, max_count))})
