from op import Op, of_any_shape
from pytorch import torch

from numbacnn import layers as nl

OP = Op(nl.Flatten, pytorch=lambda layer, g, x: torch.flatten(x, 1), draw=of_any_shape(nl.Flatten))
