"""``numbacnn export``."""

from pathlib import Path

import click

from numbacnn import onnx
from numbacnn._checks import format_shape

from . import render, shared


@click.command("export")
@shared.model_or_name
@shared.best
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.onnx")
@click.option(
    "--opset",
    type=click.IntRange(onnx.OPSETS[0], onnx.OPSETS[-1]),
    default=onnx.DEFAULT_OPSET,
    metavar="N",
    help="Version of ONNX's operators. Older runtimes read only older versions.",
)
@click.option(
    "--layout", type=click.Choice(onnx.LAYOUTS), default=onnx.LAYOUTS[0], help="Layout of images in inputs and outputs."
)
@click.option("--fold", is_flag=True, help="Absorb batch normalization into the weights before it.")
@click.option("--raw-images", is_flag=True, help="Take uint8 images, and normalize them inside the network.")
@click.option("--probabilities", is_flag=True, help="End in a softmax, unless the model ends in probabilities already.")
@shared.imports
@shared.debug
def command(model: str, file: Path, opset: int, layout: str, fold: bool, raw_images: bool, probabilities: bool) -> None:
    """Write a model as an ONNX file, for other runtimes.

    MODEL is a model file or the folder of a run, NAME an architecture, whose weights are random. FILE.onnx is replaced
    if it exists. onnxruntime, OpenVINO, OpenCV and browsers run it: docs/onnx.md.
    """
    if file.suffix != ".onnx":
        raise click.UsageError(f"{file}: the name of the file to write must end in .onnx.")
    network = shared.open_model(model)
    onnx.save(
        network,
        file,
        opset=opset,
        layout=layout,
        fold=fold,
        raw_images=raw_images,
        probabilities=probabilities,
    )
    shapes = " and ".join(format_shape(shape) for shape in network.graph.input_shapes)
    render.text(f"{file}: opset {opset}, {layout}, images {shapes}, {render.size(file.stat().st_size)}")
