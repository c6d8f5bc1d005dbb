"""Reads models from files: our own format, and others whose packages add a reader."""

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path

from numbacnn._checks import path_of, shown
from numbacnn._checks.names import checks_arguments
from numbacnn.engine.device import get_device
from numbacnn.engine.limits import check_graph
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.layers import Layer
from numbacnn.model.model import ARRAYS_INSTEAD, Model
from numbacnn.saving import format as files

READERS: dict[str, Callable[[Path], files.ModelFile]] = {}  # of other formats, by the suffix of the file


@checks_arguments
def load(
    path: str | PathLike[str],
    *,
    layers: Sequence[type[Layer]] = (),
    device: str = "cpu",
    precision: str = "fp32",
    limits: bool = True,
) -> Model:
    """Return the model that ``save`` wrote, or the network of a file that ends in .onnx.

    ``device`` and ``precision`` are as in ``Model``; ``nc.onnx.load`` has more about ONNX.

    Reading a file imports no modules: ``layers`` are the custom layer classes of the model, unless the modules that
    define them are imported already. Raises ModelFileError if the file is not a model, is damaged or newer than this
    version, or a class is unknown; or if running it on one image would need much more time or memory than its weights
    suggest (``engine.limits``), unless ``limits=False``.
    """
    layers = [*layers] if isinstance(layers, Iterable) else [layers]
    for layer in layers:
        if not (isinstance(layer, type) and issubclass(layer, Layer) and hasattr(layer, "op")):
            raise ArgumentError(f"layers: pass classes of layers, not {shown(layer)}")
    file = path_of(path, "load", ARRAYS_INSTEAD)
    read = READERS.get(file.suffix)
    content = files.read_model(path, layers, limits) if read is None else read(file)
    if limits:
        try:
            check_graph(content.graph, sum(array.nbytes for array in content.arrays.values()))
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}") from None
    return Model.from_content(content, get_device(device, precision))
