from op import BATCHES, Case, Op
from pytorch import torch

from numbacnn import layers as nl


def draw_reshape(draw):
    a, b, c, d = (draw.randint(1, 6) for _ in range(4))
    given, wanted = draw.choice(
        (((a, b * c, d), (a * b, c, d)), ((a * b * c,), (b, a, c)), ((a, b, c * d), (-1,)), ((a * d, b, c), (b, -1, d)))
    )
    name = f"reshape to {'x'.join(map(str, wanted))}"
    return Case(name, lambda: nl.Reshape(wanted), (given,), draw.choice(BATCHES))


OP = Op(nl.Reshape, pytorch=lambda layer, g, x: torch.reshape(x, (len(x), *layer.shape)), draw=draw_reshape)
