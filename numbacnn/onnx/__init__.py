"""ONNX in and out: ``save`` writes a model for other runtimes, ``load`` reads a network that others made.

Both need the extra ``onnx`` (``pip install 'numbacnn[onnx]'``), which is imported when they are called.
docs/onnx.md has recipes.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from numbacnn._checks import path_of, shown
from numbacnn._checks.names import checks_call
from numbacnn.engine.device import get_device
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.model import READERS, Model
from numbacnn.saving.format import ModelFile

DEFAULT_OPSET = 18  # with IR version 8, which runtimes since 2023 read
OPSETS = range(15, 23)
LAYOUTS = ("nchw", "nhwc")
MAX_COMPUTED = 1 << 22


@checks_call
def save(
    model: Model,
    path: str | PathLike[str],
    *,
    opset: int = DEFAULT_OPSET,
    layout: str = "nchw",
    fold: bool = False,
    raw_images: bool = False,
    probabilities: bool = False,
) -> None:
    """Write the model's inference graph to an ONNX file, completely or not at all.

    Inputs and outputs are float32 (N, channels, height, width) or (N, features), where N is any batch size. They have
    the names of our inputs and layers. The file's metadata has the class names, the task and the normalization.

    Args:
        model: the model; its auxiliary outputs are left out.
        path: the file, which is replaced if it exists.
        opset: version of the operator set, 15 to 22.
        layout: "nchw", or "nhwc" for images (N, height, width, channels), which adds a transpose at each end.
        fold: absorb batch normalization into the weights before it.
        raw_images: take uint8 images, and normalize them inside the network.
        probabilities: end in a softmax, or in a sigmoid if there is one channel, unless the model does, or detects.

    Raises:
        ArgumentError: an option is not valid, or does not fit the model.
        NumbacnnError: a layer has no counterpart in ONNX, the file would exceed 2 GiB, or onnx is not installed.
    """
    if not hasattr(model, "graph"):
        raise ArgumentError(f"onnx.save: {shown(model)} is not a model; pass the model, then the path")
    _require_onnx()
    from numbacnn.data.files import write_file
    from numbacnn.onnx.writer import Options, model_to_onnx

    options, file = Options(opset, layout, fold, raw_images, probabilities), path_of(path, "onnx.save")
    write_file(file, model_to_onnx(model, options).SerializeToString(deterministic=True))


@checks_call
def load(
    path: str | PathLike[str],
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    max_computed: int = MAX_COMPUTED,
    batch_axis: bool = True,
    limits: bool = True,
    device: str = "cpu",
    precision: str = "fp32",
) -> Model:
    """Return the network of an ONNX file as a model, which can be trained.

    Images N×C×H×W of the file are N×H×W×C here, and the weights have our layouts. Layers have the names of their
    weights in the file, or of its operators. Constants of the file that are single numbers are frozen. Class names,
    task and normalization are those of the metadata, if ``save`` wrote it; images that the file takes as uint8 are
    raw images here.

    Args:
        path: the file. External data is read from files in the same folder only.
        shapes: the shapes of inputs, without the batch and in the order of the file, whose sizes it leaves open.
        max_computed: elements of a constant that the file computes instead of storing it; a small file could ask for
            any amount of memory.
        batch_axis: whether the first axis of the inputs is the batch, as usual. If not, the file computes one image
            (channels, height, width) or one vector of features, and the model computes any number of them.
        limits: reject a network that needs much more time or memory for one image than its weights suggest, as
            ``nc.load`` does.
        device: as in ``Model``.
        precision: as in ``Model``.

    Raises:
        ModelFileError: the file is damaged, an operator has no counterpart, or the network exceeds the limits.
        NumbacnnError: onnx is not installed.
    """
    _require_onnx()
    from numbacnn.onnx.files import read_model

    content = read_model(path_of(path, "onnx.load"), shapes or {}, max_computed, batch_axis, limits)
    return Model.from_content(content, get_device(device, precision))


def _read(path: Path) -> ModelFile:
    """Read a file for ``nc.load``, which checks the limits."""
    _require_onnx()
    from numbacnn.onnx.files import read_model

    return read_model(path, limits=False)


READERS[".onnx"] = _read


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise NumbacnnError("reading and writing ONNX needs onnx: pip install 'numbacnn[onnx]'") from None
