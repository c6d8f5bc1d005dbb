"""``numbacnn plot``."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

import numbacnn
from numbacnn import plots
from numbacnn._checks import choose
from numbacnn.data import Dataset
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.plots.figures import checked_path, figure
from numbacnn.runs.run import RunFolder, model_file

from . import render
from .eval import data_of_run, test_part
from .options import debug_option, device_option, engine, import_option, model_argument, threads_option
from .predict import read_images


@dataclass(frozen=True)
class Subject:
    """What a picture is of: the model, and what the options say; all of it read when it is asked for."""

    path: Path
    device: str
    options: dict[str, Any]

    @cached_property
    def model(self) -> numbacnn.Model:
        """The model."""
        return numbacnn.load(model_file(self.path), device=self.device)

    @cached_property
    def test(self) -> Dataset:
        """The test part of the data, its classes the model's."""
        name = self.options["data"] or data_of_run(self.path)
        return test_part(self.model, name)

    @cached_property
    def image(self) -> NDArray[Any]:
        """The one image, raw: from a file, or from the test part."""
        if self.options["image"] is not None:
            return read_images(self.model, [self.options["image"]])
        index = self.options["index"]
        if index >= len(self.test):
            raise ArgumentError(f"--index {index}: the test part has images 0 to {len(self.test) - 1}")
        return self.test.images[index : index + 1]

    @property
    def layer(self) -> str | None:
        """The one layer, if it is given."""
        layers = self.options["layer"]
        if len(layers) > 1:
            raise ArgumentError("this picture is of one layer: give one --layer")
        return layers[0] if layers else None

    @property
    def class_number(self) -> int | None:
        """The number of the class, if it is given."""
        name = self.options["class_name"]
        names = {known: number for number, known in enumerate(self.model.class_names)}
        return None if name is None else choose("class", name, names)


def _curves(subject: Subject) -> Any:
    if subject.path.exists() and not subject.path.is_dir():
        raise ModelFileError(f"{subject.path} is a file; training curves are of a run: give its folder")
    if not subject.path.exists():
        raise ModelFileError(f"{subject.path}: there is no such folder")
    return plots.training_curves(RunFolder(subject.path).read_metrics(), f"Training of {subject.path}")


def _gradients(subject: Subject) -> Any:
    chosen = subject.test.subset(np.arange(min(subject.options["count"] or 64, len(subject.test))))
    norms = plots.layer_gradient_norms(subject.model, chosen.images, chosen.labels)
    return plots.gradient_norms(norms, f"Norm of the gradient, layer by layer, on {len(chosen)} images")


def _predictions(subject: Subject) -> Any:
    if subject.options["image"] is not None:
        return plots.predictions(subject.model, subject.image)
    chosen = plots.evenly_chosen(subject.test, subject.options["count"] or 6)
    return plots.predictions(subject.model, chosen.images, chosen.labels)


class Kind(NamedTuple):
    """How a picture is drawn, and the options that it takes."""

    draw: Callable[[Subject], Any]
    options: tuple[str, ...] = ()


IMAGE = ("data", "image", "index", "layer")
KINDS = {
    "curves": Kind(_curves),
    "confusion": Kind(lambda s: plots.confusion_matrix(s.model.report(s.test)), ("data",)),
    "mistakes": Kind(lambda s: plots.mistakes(s.model, s.test, s.options["count"] or 25), ("data", "count")),
    "predictions": Kind(_predictions, ("data", "image", "count")),
    "filters": Kind(lambda s: plots.filters(s.model, s.layer), ("layer",)),
    "features": Kind(lambda s: plots.feature_maps(s.model, s.image, s.options["layer"] or None), IMAGE),
    "gradcam": Kind(lambda s: plots.grad_cam(s.model, s.image[0], s.class_number, s.layer), (*IMAGE, "class_name")),
    "gradients": Kind(_gradients, ("data", "count")),
}


@click.command("plot")
@model_argument
@click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A .png or .svg file.")
@click.option("--data", metavar="NAME|DIR", help="Its test part is used.  [default: the data of the model's run]")
@click.option("--image", type=click.Path(path_type=Path), metavar="FILE", help="The image, instead of one of the data.")
@click.option("--index", type=click.IntRange(0), default=0, metavar="N", help="Number of the image in the test part.")
@click.option("--layer", multiple=True, metavar="NAME", help="A layer, as summary names it; for features, several.")
@click.option("--class", "class_name", metavar="NAME", help="Of gradcam.  [default: the predicted class]")
@click.option(
    "--count",
    type=click.IntRange(1),
    metavar="N",
    help="Mistakes (25), images of predictions (6) or of gradients (64).",
)
@import_option
@threads_option
@device_option
@debug_option
@click.pass_context
def command(
    ctx: click.Context, /, model: Path, kind: str, out: Path, threads: int | None, device: str | None, **options: Any
) -> None:
    """Draw a picture of a training or a model.

    MODEL is a run's folder or a model file. KIND is curves (loss and accuracy over the epochs of a run), confusion
    (which classes are taken for which), mistakes (those the model is surest of), predictions (of a model that segments
    or detects, beside the truth), filters (a convolution's weights), features (what layers make of an image), gradcam
    (where in an image a class is seen) or gradients (how large they are, layer by layer). Needs matplotlib: pip install
    'numbacnn[plot]'.
    """
    wanted = KINDS[kind]
    for name in options:
        if name not in wanted.options and ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{kind} takes no --{name.removesuffix('_name')}.", ctx)
    if options["image"] and options["index"]:
        raise click.UsageError("give --image or --index, not both.", ctx)
    checked_path(out)
    figure(1, 1)  # says at once where matplotlib is missing
    with engine(threads):
        plots.save(wanted.draw(Subject(model, device or "cpu", options)), out)
    render.text(str(out))
