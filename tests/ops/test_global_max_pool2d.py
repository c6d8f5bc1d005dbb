import pytest
from op import Op, case, of_images
from pooling import assert_first_of_equals_gets_the_gradient
from pytorch import torch

from numbacnn import layers as nl

OP = Op(
    nl.GlobalMaxPool2D,
    pytorch=lambda layer, g, x: torch.amax(x, dim=(1, 2), keepdim=layer.keepdims),
    draw=of_images(nl.GlobalMaxPool2D),
    picked=[case(nl.GlobalMaxPool2D, "image that keeps its axes", (3, 4, 5), 2, keepdims=True)],
)


@pytest.mark.parametrize("case", [*OP.picked, *OP.drawn()], ids=str)
def test_among_equals_the_first_gets_the_gradient(case):
    assert_first_of_equals_gets_the_gradient(case)
