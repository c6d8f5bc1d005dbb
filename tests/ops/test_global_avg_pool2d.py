from op import Op, case, of_images
from pytorch import torch

from numbacnn import layers as nl

OP = Op(
    nl.GlobalAvgPool2D,
    pytorch=lambda layer, g, x: torch.mean(x, dim=(1, 2), keepdim=layer.keepdims),
    draw=of_images(nl.GlobalAvgPool2D),
    picked=[case(nl.GlobalAvgPool2D, "image that keeps its axes", (3, 4, 5), 2, keepdims=True)],
)
