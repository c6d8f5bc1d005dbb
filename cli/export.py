"""``numbacnn export``."""

from pathlib import Path

import click
from click.core import ParameterSource

from numbacnn import onnx
from numbacnn._checks import format_shape

from . import render, shared
from .serve import form_of, open_model, title_of


@click.command("export")
@shared.model_or_name
@shared.best
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.onnx|PAGE.html")
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
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    file: Path,
    opset: int,
    layout: str,
    fold: bool,
    raw_images: bool,
    probabilities: bool,
) -> None:
    """Write a model as an ONNX file, for other runtimes, or a classifier as a page to draw on.

    MODEL is a model file or the folder of a run, NAME an architecture, whose weights are random, or mnist, the bundled
    model. The file is replaced if it exists. onnxruntime, OpenVINO, OpenCV and browsers run FILE.onnx: docs/onnx.md.
    PAGE.html needs no server and no network (docs/serve.md), and none of the options.
    """
    if file.suffix not in (".onnx", ".html"):
        raise click.UsageError(f"{file}: the name of the file to write must end in .onnx or .html.")
    if file.suffix == ".html":
        _export_page(ctx, model, file)
        return
    network = open_model(model)
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


def _export_page(ctx: click.Context, model: str, file: Path) -> None:
    """Write a page. Raises UsageError if an option of ONNX files is given."""
    for name in ("opset", "layout", "fold", "raw_images", "probabilities"):
        if ctx.get_parameter_source(name) not in (ParameterSource.DEFAULT, None):
            raise click.UsageError(f"--{name.replace('_', '-')} is for ONNX files.")
    from numbacnn.serve.export import export_page

    network = open_model(model)
    size = export_page(network, file, title_of(model), form_of(model, network))
    render.text(f"{file}: a page of {size / 1000:,.0f} kB, {network.store.count:,} parameters; open it in a browser")
