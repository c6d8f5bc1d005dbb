"""Networks of torchvision with random weights and statistics, as ONNX files that PyTorch writes."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

NAMES = (
    "resnet18",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "densenet121",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "regnet_y_400mf",
    "mnasnet0_5",
    "googlenet",
    "vgg11_bn",
)
OPTIONS = {"googlenet": {"aux_logits": False, "init_weights": False}}
BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def make(name: str, classes: int = 1000) -> nn.Module:
    """Make a network in evaluation mode, without dropout; all its biases and statistics are random, as after training.

    Raises ModuleNotFoundError if torchvision is not installed.
    """
    _prepare_import()
    from torchvision.models import get_model

    torch.manual_seed(NAMES.index(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = get_model(name, num_classes=classes, **OPTIONS.get(name, {}))
    for module in network.modules():
        _randomize(module)
    return network.eval()


def save(network: nn.Module, path: Path, shape: Sequence[int], fold: bool = True) -> None:
    """Export a network in evaluation mode for images of one shape (channels, height, width), and any batch size.

    PyTorch folds batch normalization into the weights before it unless ``fold`` is false, as needed for training.
    """
    mode = torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, *shape),),
            str(path),
            dynamo=False,
            training=mode,
            do_constant_folding=fold,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )


def _randomize(module: nn.Module) -> None:
    if isinstance(module, nn.Dropout):
        module.p = 0.0
    if isinstance(module, nn.BatchNorm2d):
        nn.init.uniform_(module.weight, 0.5, 1.5)
        nn.init.normal_(module.running_mean, std=0.1)
        nn.init.uniform_(module.running_var, 0.5, 2.0)
    if isinstance(getattr(module, "bias", None), nn.Parameter):
        nn.init.normal_(module.bias, std=0.1)


def _prepare_import() -> None:
    """Declare torchvision's operators for boxes if its own cannot be loaded, as in a build for another PyTorch.

    No network here uses them, but torchvision cannot be imported without them.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision is not installed", name="torchvision")
    try:
        for library in Path(spec.origin).parent.glob("_C*"):
            torch.ops.load_library(str(library))
    except OSError:
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", BOXES)
