from op import BATCHES, Case, Op, case, draw_shape

from numbacnn import layers as nl


def draw_add(draw):
    return Case("add", nl.Add, (draw_shape(draw),) * draw.randint(2, 4), draw.choice(BATCHES))


OP = Op(
    nl.Add,
    pytorch=lambda layer, g, *xs: sum(xs),
    draw=draw_add,
    picked=[case(nl.Add, "three inputs", ((4, 5, 3),) * 3, 2), case(nl.Add, "features", ((9,),) * 2, 1)],
)
