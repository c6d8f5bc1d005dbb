"""``numbacnn serve``."""

from contextlib import suppress
from pathlib import Path

import click
import numpy as np

import numbacnn
from numbacnn.data import NAMES as DATA_SETS
from numbacnn.data import load, verify
from numbacnn.data.dataset import Dataset
from numbacnn.errors import DataError
from numbacnn.runs.folder import run_of
from numbacnn.serve.bundled import NAMES, load_bundled, load_form
from numbacnn.serve.security import LOOPBACK, is_loopback
from numbacnn.serve.strokes import StrokeForm

from . import complete, render, shared
from .eval import TestData, load_test_set

PORT = 8700
ONE_THREAD_FLOPS = 50e6  # of an image: below, a second thread saves less than it costs the one that answers requests


def warn_of_others(host: str) -> None:
    """Print a warning if others can reach the server."""
    if not is_loopback(host):
        render.warning(
            f"{host} is not only this machine: whoever reaches it can use the model and see the page; there is neither "
            f"a password nor encryption. Leave --host out to serve on {LOOPBACK}"
        )


host_option = click.option(
    "--host", default=LOOPBACK, metavar="ADDRESS", help="Address to listen on. Others than this machine's are public."
)


@click.command("serve")
@click.argument(
    "model", metavar="[MODEL|NAME]", default=NAMES[0], callback=shared.of_best, shell_complete=complete.model_or_name
)
@shared.best
@host_option
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, metavar="N", help="Port; 0 is any free one.")
@shared.data
@shared.imports
@shared.threads
@shared.device
@shared.debug
def command(model: str, host: str, port: int, data: str | None, threads: int | None, device: str | None) -> None:
    """Serve a page on which a model is drawn for, looked into and broken, and a JSON API.

    MODEL is a model file or the folder of a run, NAME the bundled model mnist, or an architecture, whose weights are
    random. The page takes drawings and images, and shows probabilities, masks or boxes, the feature maps of every
    layer, and how each number in them is computed. docs/serve.md has the API.
    """
    from numbacnn.serve.app import make_app
    from numbacnn.serve.prediction import Upload, check_images, predict
    from numbacnn.serve.server import address, bound_socket, run_server

    with shared.engine(threads):
        network, form, test = _load(model, data, device or "cpu")
        check_images(network)
        if threads is None and network.summary(show=False).flops < ONE_THREAD_FLOPS:
            numbacnn.set_num_threads(1)
        blank = np.zeros(network.input_shape, np.uint8)
        predict(network, [Upload.raw(network, blank.tobytes())])  # compiles the kernels
        app = make_app(network, title_of(model), test, form, local=is_loopback(host))
        listening = bound_socket(host, port)
        warn_of_others(host)
        render.log(f"serving {model} on {address(listening)} (Ctrl-C stops it)")
        run_server(app, listening)


def _load(model: str, data: str | None, device: str) -> tuple[numbacnn.Model, StrokeForm | None, Dataset | None]:
    """Return a model, the form of its strokes if it is bundled, and its test images if there are any."""
    network, is_file = open_model(model, device), shared.is_file_name(model)
    if is_bundled(model):
        test = load("digits")[1] if data is None else load_test_set(network, TestData(data), "keep")
        return network, load_form(model), test
    if data is None:
        return network, None, _images_of_run(network, Path(model)) if is_file and run_of(Path(model)) else None
    source = TestData.of(Path(model), data) if is_file else TestData(data)
    return network, None, load_test_set(network, source, "keep")


def _images_of_run(network: numbacnn.Model, model: Path) -> Dataset | None:
    """Return the test images of a run; prints why there are none if they are not on this machine."""
    try:
        source = TestData.of(model, None)
        if source.name in DATA_SETS and any(state != "ok" for _, state in verify(source.name)):
            raise DataError(f"{source.name} is not on this machine; add --data {source.name} to download it")
        return load_test_set(network, source, "keep")
    except DataError as error:
        render.notes([f"no test images: {error}"])
        return None


def is_bundled(model: str) -> bool:
    """Return whether MODEL|NAME is a bundled model; ./mnist is a folder of that name."""
    return model in NAMES


def open_model(model: str, device: str = "cpu") -> numbacnn.Model:
    """Load the model of a file or a run's folder, or a bundled one, or build an architecture."""
    return load_bundled(model, device) if is_bundled(model) else shared.open_model(model, device)


def form_of(model: str, network: numbacnn.Model) -> StrokeForm | None:
    """Return the form of the strokes in the images that a model was trained on, if they are strokes and there."""
    if is_bundled(model):
        return load_form(model)
    if network.input_shape[-1] != 1 or not shared.is_file_name(model) or not run_of(Path(model)):
        return None
    trained = network.normalization and network.normalization.images
    with suppress(DataError):
        images = load_test_set(network, TestData.of(Path(model), None), "keep").images
        if images.dtype == np.uint8:
            return StrokeForm.of(images, not trained or trained.light_on_dark is not False)
    return None


def title_of(model: str) -> str:
    """Return the name of a model without the folders it is in."""
    path = Path(model)
    return (
        path.parent.name if path.name in ("model.safetensors", "best.safetensors") and path.parent.name else path.name
    )
