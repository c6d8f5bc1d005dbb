"""Published architectures, built from the public layers.

Each is a function ``NAME(input_shape=…, classes=…, weights=None, seed=0, device="cpu", precision="fp32")`` that
returns a Model; ``weights`` is a file for ``Model.load_weights``. Layers have the names of torchvision's modules.
"""

from typing import Any

from numbacnn._checks import choose
from numbacnn._checks.names import checks_call
from numbacnn.model import Model
from numbacnn.models.alexnet import alexnet
from numbacnn.models.build import Architecture
from numbacnn.models.detector import grid_detector
from numbacnn.models.googlenet import googlenet
from numbacnn.models.lenet import lenet5
from numbacnn.models.mobilenet import mobilenet_v2
from numbacnn.models.resnet import resnet18, resnet18_small, resnet34, resnet50, resnet101, wide_resnet50_2
from numbacnn.models.resnet_cifar import resnet20, resnet32, resnet56, wide_resnet16_4, wide_resnet28_10
from numbacnn.models.simple import deep_cnn, deep_cnn_wide, simple_cnn
from numbacnn.models.unet import unet, unet_small
from numbacnn.models.vgg import vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn

FUNCTIONS: tuple[Architecture, ...] = (
    lenet5,
    simple_cnn,
    *(deep_cnn, deep_cnn_wide),
    alexnet,
    *(vgg11, vgg13, vgg16, vgg19, vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn),
    googlenet,
    *(resnet18_small, resnet18, resnet34, resnet50, resnet101, resnet20, resnet32, resnet56),
    *(wide_resnet50_2, wide_resnet16_4, wide_resnet28_10),
    mobilenet_v2,
    *(unet, unet_small),
    grid_detector,
)
MODELS: dict[str, Architecture] = {function.__name__: function for function in FUNCTIONS}


@checks_call
def make(name: str, **options: Any) -> Model:
    """Build the architecture ``name`` with its options. Raises ArgumentError with the nearest name if it is unknown."""
    return choose("model", name, MODELS)(**options)


__all__ = ["MODELS", "make", *MODELS]
