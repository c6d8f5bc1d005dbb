"""The architectures of nc.models as parameters of a test. CI skips those that have the same layers as a smaller one."""

from collections.abc import Collection

import pytest

import numbacnn as nc

HUGE = (
    *("vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("resnet34", "resnet50", "resnet101", "wide_resnet50_2"),
    *("resnet32", "resnet56", "wide_resnet28_10", "unet"),
)


def each_architecture(quick: Collection[str]):
    """A decorator for a test with the argument ``name``, which runs for each architecture."""
    return pytest.mark.parametrize("name", parameters(quick))


def parameters(quick: Collection[str], huge: Collection[str] = HUGE):
    """The names as parameters: those that are not ``quick`` are marked long, and the ``huge`` ones of them huge."""
    marks = {name: [pytest.mark.long, *([pytest.mark.huge] if name in huge else [])] for name in nc.models.MODELS}
    return [pytest.param(name, marks=[] if name in quick else marks[name], id=name) for name in nc.models.MODELS]
