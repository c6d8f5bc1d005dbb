"""ONNX in and out: ``save`` writes a model for other runtimes, ``load`` reads a network that others made.

Both need the extra ``onnx`` (``pip install 'numbacnn[onnx]'``), which is imported when they are called.
docs/onnx.md has recipes.
"""

from os import PathLike
from pathlib import Path

from numbacnn.errors import NumbacnnError
from numbacnn.model import Model

DEFAULT_OPSET = 18  # with IR version 8, which runtimes since 2023 read
OPSETS = range(15, 23)
LAYOUTS = ("nchw", "nhwc")


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
    _require_onnx()
    from numbacnn.data.files import write_file
    from numbacnn.onnx.writer import Options, model_to_onnx

    options = Options(opset, layout, fold, raw_images, probabilities)
    write_file(Path(path), model_to_onnx(model, options).SerializeToString(deterministic=True))


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise NumbacnnError("reading and writing ONNX needs onnx: pip install 'numbacnn[onnx]'") from None
