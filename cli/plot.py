"""``numbacnn plot``."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

import numbacnn
from numbacnn import plots
from numbacnn._checks import choose
from numbacnn.data import Dataset
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.plots.figures import checked_path, new_figure
from numbacnn.runs.folder import RunFolder

from . import render, shared
from .eval import TestData, load_test_set
from .images import read_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Subject:
    """The model or run to plot, with the command's options. Everything is read on first use."""

    path: Path
    device: str
    options: dict[str, Any]

    @cached_property
    def model(self) -> numbacnn.Model:
        """The model."""
        return shared.load(self.path, device=self.device)

    @cached_property
    def test(self) -> Dataset:
        """The test set, with the model's classes."""
        source = TestData.of(self.path, self.options["data"])
        return load_test_set(self.model, source, self.options["polarity"])

    @cached_property
    def image(self) -> NDArray[Any]:
        """The raw image (1, H, W, C) of --image, or of --index in the test set."""
        if self.options["image"] is not None:
            return read_images(self.model, [self.options["image"]], self.options["polarity"])
        index = self.options["index"]
        if index >= len(self.test):
            raise ArgumentError(f"--index {index}: the test set has images 0 to {len(self.test) - 1}")
        return self.test.images[index : index + 1]

    @property
    def layer(self) -> str | None:
        """The name of --layer, if given. Raises ArgumentError if it is given twice."""
        layers = self.options["layer"]
        if len(layers) > 1:
            raise ArgumentError("this plot shows one layer: use one --layer")
        return layers[0] if layers else None

    @property
    def class_number(self) -> int | None:
        """The number of the class of --class, if given."""
        name = self.options["class_name"]
        names = {known: number for number, known in enumerate(self.model.class_names)}
        return None if name is None else choose("class", name, names)


def _curves(subject: Subject) -> "Figure":
    if not subject.path.exists():
        raise ModelFileError(f"{subject.path}: no such folder")
    if not subject.path.is_dir():
        raise ModelFileError(f"{subject.path} is a file; use the folder of a run to plot its training curves")
    return plots.training_curves(RunFolder(subject.path).read_metrics(), f"Training of {subject.path}")


def _gradients(subject: Subject) -> "Figure":
    chosen = subject.test.subset(np.arange(min(subject.options["count"] or 64, len(subject.test))))
    norms = plots.layer_gradient_norms(subject.model, chosen.images, chosen.labels)
    return plots.gradient_norms(norms, f"Gradient norms by layer, {len(chosen)} images")


def _predictions(subject: Subject) -> "Figure":
    if subject.options["image"] is not None:
        return plots.predictions(subject.model, subject.image)
    chosen = plots.evenly_chosen(subject.test, subject.options["count"] or 6)
    return plots.predictions(subject.model, chosen.images, chosen.labels)


class Kind(NamedTuple):
    """A kind of plot: its function, and the options that it takes."""

    draw: "Callable[[Subject], Figure]"
    options: tuple[str, ...] = ()


IMAGE = ("data", "image", "polarity", "index", "layer")
KINDS = {
    "curves": Kind(_curves),
    "confusion": Kind(lambda s: plots.confusion_matrix(s.model.report(s.test)), ("data", "polarity")),
    "mistakes": Kind(
        lambda s: plots.mistakes(s.model, s.test, s.options["count"] or 25), ("data", "polarity", "count")
    ),
    "predictions": Kind(_predictions, ("data", "image", "polarity", "count")),
    "filters": Kind(lambda s: plots.filters(s.model, s.layer), ("layer",)),
    "features": Kind(lambda s: plots.feature_maps(s.model, s.image, s.options["layer"] or None), IMAGE),
    "gradcam": Kind(lambda s: plots.grad_cam(s.model, s.image[0], s.class_number, s.layer), (*IMAGE, "class_name")),
    "gradients": Kind(_gradients, ("data", "polarity", "count")),
}


@click.command("plot")
@shared.model
@click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
@click.option("--out", required=True, help="PNG or SVG file to write.", **shared.FILE)
@shared.data
@click.option("--image", help="Image file, instead of a test image.", **shared.FILE)
@shared.polarity
@click.option("--index", type=click.IntRange(0), default=0, metavar="N", help="Index of the image in the test set.")
@click.option("--layer", multiple=True, metavar="NAME", help="Layer, as named by summary; repeatable for features.")
@click.option("--class", "class_name", metavar="NAME", help="Class for gradcam.  [default: the predicted class]")
@click.option("--count", help="Images.  [default: 25 mistakes, 6 predictions, 64 for gradients]", **shared.COUNT)
@shared.imports
@shared.threads
@shared.device
@shared.debug
@click.pass_context
def command(
    ctx: click.Context, /, model: Path, kind: str, out: Path, threads: int | None, device: str | None, **options: Any
) -> None:
    """Plot a training run or a model. Needs matplotlib: pip install 'numbacnn[plot]'.

    MODEL is a model file or the folder of a run. KIND is one of:

    \b
    curves       loss, accuracy and learning rate of a run
    confusion    confusion matrix
    mistakes     misclassified images with the most confident predictions
    predictions  predicted and true masks or boxes
    filters      weights of a convolution
    features     feature maps of an image
    gradcam      Grad-CAM: the evidence for a class in an image
    gradients    gradient norm of each layer
    """
    chosen = KINDS[kind]
    for name in options:
        if name not in chosen.options and ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{kind} takes no --{name.removesuffix('_name')}.", ctx)
    if options["image"] and options["index"]:
        raise click.UsageError("use --image or --index, not both.", ctx)
    checked_path(out)
    new_figure(1, 1)  # fails early if matplotlib is missing
    with shared.engine(threads):
        plots.save(chosen.draw(Subject(model, device or "cpu", options)), out)
    render.text(str(out))
