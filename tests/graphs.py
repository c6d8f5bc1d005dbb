"""Small models for tests of graphs and plans: some by name, and a hypothesis strategy that draws others."""

import zlib

import numpy as np
from engine import normals, output_shapes, randomize
from hypothesis import note
from hypothesis import strategies as st

import numbacnn as nc
from numbacnn.engine.graph_format import to_dict

# -- by name ----------------------------------------------------------------------------------------------------------


def residual():
    """A residual block with ReLU, whose input is read three times."""
    x = nc.Input((7, 8, 3))
    h = nc.ReLU()(nc.Conv2D(6, 3, padding="same")(x))
    block = nc.Conv2D(6, 3, padding="same")(nc.ReLU()(nc.Conv2D(4, 1)(h)))
    h = nc.ReLU()(nc.Add()([h, block, h]))
    return nc.Model([x], [nc.Dense(5)(nc.GlobalAvgPool2D()(h))])


def fork_and_join():
    """A value read by layers of different padding, stride and kind, whose outputs are added."""
    x = nc.Input((8, 8, 2))
    h = nc.Tanh()(nc.Conv2D(5, 3, padding="same")(x))
    branches = [
        nc.Conv2D(4, 5, stride=2, padding=2)(h),
        nc.Conv2D(4, 1, stride=2)(h),
        nc.Conv2D(4, 2, stride=2)(nc.ReLU()(h)),
        nc.Conv2D(4, 1)(nc.MaxPool2D(3, stride=2, padding="same")(h)),
        nc.Conv2D(4, 1)(nc.AvgPool2D(2)(h)),
    ]
    return nc.Model([x], [nc.Dense(3)(nc.Flatten()(nc.Sigmoid()(nc.Add()(branches))))])


def several_inputs_and_outputs():
    """Two inputs; an output that another layer reads too; outputs before and after an activation."""
    image, features = nc.Input((6, 6, 1), name="image"), nc.Input((4,), name="features")
    h = nc.Conv2D(3, 3, padding=1)(image)
    pooled = nc.MaxPool2D(2)(nc.ReLU()(h))
    flat = nc.Dense(5)(nc.Flatten()(pooled))
    joined = nc.Add()([flat, nc.Dense(5)(features)])
    return nc.Model([image, features], [h, joined, nc.Softmax()(nc.ReLU()(joined))])


def fused_chain():
    """Everything that is fused: ReLU into convolution and dense, activations' gradients after those of max-pools."""
    layers = [
        nc.Conv2D(5, 3, padding="same"), nc.ReLU(), nc.MaxPool2D(2),
        nc.Conv2D(6, 3), nc.ReLU(), nc.MaxPool2D(3, stride=2, ceil_mode=True),
        nc.Tanh(), nc.MaxPool2D(2), nc.Flatten(), nc.Dense(9), nc.ReLU(), nc.Dense(4),
    ]  # fmt: skip
    return listed(nc.Sequential(layers, (15, 16, 2)))


def views():
    """Flatten of the input, of an output, of a value with a halo, and of a value with another reader."""
    x = nc.Input((4, 5, 3))
    h = nc.Conv2D(3, 3, padding="same")(x)
    flat = nc.Flatten()(h)
    return nc.Model([x], [flat, nc.Conv2D(2, 3, padding="same")(h), nc.Dense(4)(nc.Flatten()(x)), nc.Dense(2)(flat)])


def auxiliary_heads():
    """Auxiliary heads on a value that the main path reads too, after a fused activation, and on an input."""
    x = nc.Input((7, 8, 2))
    h = nc.ReLU()(nc.Conv2D(4, 3, padding="same")(x))
    side = nc.Dense(3)(nc.Flatten()(nc.ReLU()(nc.Conv2D(2, 5)(h))))
    deep = nc.Conv2D(5, 3)(h)
    main = nc.Dense(3)(nc.GlobalAvgPool2D()(nc.ReLU()(deep)))
    return nc.Model([x], [main], auxiliary=[side, deep, nc.GlobalMaxPool2D()(x)])


def normalized():
    """Normalizations with and without a fused ReLU, after forks and halos, and both dropouts."""
    x = nc.Input((7, 6, 3))
    h = nc.ReLU()(nc.BatchNorm()(nc.Conv2D(8, 3, padding="same", bias=False)(x)))
    block = nc.SpatialDropout(0.3)(nc.GroupNorm(2)(nc.Conv2D(8, 3, padding="same")(h)))
    h = nc.MaxPool2D(2, stride=1)(nc.ReLU()(nc.Add()([h, block])))
    h = nc.ReLU()(nc.GroupNorm(4)(nc.LocalResponseNorm(3, alpha=0.5)(nc.Conv2D(4, 2)(h))))
    h = nc.Dropout(0.4)(nc.Tanh()(nc.Dense(9)(nc.Flatten()(h))))
    return nc.Model([x], [nc.Dense(5)(h), nc.BatchNorm(eps=0.1)(block)])


def squeezed():
    """Different branches, concatenated and gated by squeeze-and-excitation, between values with halos."""
    x = nc.Input((6, 5, 3))
    h = nc.Conv2D(4, 3, padding="same")(x)
    up = nc.Upsample2D(2)(nc.MaxPool2D((2, 1))(nc.ZeroPad2D(((0, 0), (0, 1)))(h)))
    branches = [
        nc.SiLU()(nc.Conv2D(3, 3, padding="same")(h)),
        nc.PReLU()(nc.AvgPool2D(3, stride=1, padding="same")(h)),
        nc.Conv2D(5, (1, 8))(nc.LeakyReLU()(nc.Conv2D(2, 3, padding="same")(up))),
    ]
    h = nc.layers.squeeze_excite(nc.Concat()(branches), reduction=4)
    rows = nc.Conv2D(2, 3, padding="same")(nc.Reshape((5, 6, -1))(nc.Conv2D(2, 3, padding="same")(h)))
    return nc.Model([x], [nc.Dense(3)(nc.Flatten()(nc.AdaptiveMaxPool2D(2)(nc.ReLU6()(rows))))])


def shortcuts():
    """Residual additions after convolutions of every algorithm, with the residual computed before or after them."""
    x = nc.Input((9, 10, 3))
    h = nc.ReLU()(nc.Add()([nc.Conv2D(3, 3, padding="same")(x), x]))
    for layer in (
        nc.Conv2D(3, 3, padding="same", algorithm="winograd4", bias=False),
        nc.Conv2D(3, 3, padding="same", algorithm="winograd2", bias=False),
        nc.DepthwiseConv2D(3, padding="same", bias=False),
        nc.Conv2D(3, 5, padding="same", groups=3, bias=False),
    ):
        h = nc.ReLU()(nc.Add()([h, nc.BatchNorm()(layer(h))]))
    block = nc.BatchNorm()(nc.Conv2D(37, 3, stride=2, padding=1, bias=False)(h))
    h = nc.ReLU()(nc.Add()([block, nc.BatchNorm()(nc.Conv2D(37, 1, stride=2, bias=False)(h))]))
    single = nc.Conv2D(1, 1)(h)
    pairs = nc.Add()([nc.Conv2D(8, 3, padding=1)(single), nc.Conv2D(8, 3, padding=1)(h)])
    pooled = nc.MaxPool2D(2)(nc.Add()([nc.Conv2D(8, 1)(pairs), pairs]))
    inner = nc.Conv2D(8, 3, padding=1)(pairs)
    return nc.Model([x], [nc.Add()([inner, inner]), nc.Add()([inner, pairs]), nc.Flatten()(pooled)])


def lenet5():
    return listed(nc.models.lenet5())


def simple_cnn():
    return listed(nc.models.simple_cnn())


def listed(model):
    """Make a model of one input and output take and return lists."""
    model.several_inputs = model.several_outputs = True
    return model


SMALL = [
    residual,
    fork_and_join,
    several_inputs_and_outputs,
    fused_chain,
    views,
    auxiliary_heads,
    normalized,
    squeezed,
    shortcuts,
]
NAMED = [*SMALL, lenet5, simple_cnn]


# -- drawn ------------------------------------------------------------------------------------------------------------

IMAGE_LAYERS = [
    lambda: nc.Conv2D(3, 3, padding="same"),
    lambda: nc.Conv2D(5, 2),
    lambda: nc.Conv2D(3, 3, stride=2, padding=((2, 0), (1, 1))),
    lambda: nc.Conv2D(3, 1, bias=False),
    lambda: nc.Conv2D(6, 3, padding=3, dilation=2, groups=3),
    nc.ReLU,
    nc.Tanh,
    nc.Sigmoid,
    nc.Softmax,
    lambda: nc.MaxPool2D(2, ceil_mode=True),
    lambda: nc.MaxPool2D(3, stride=2, padding="same"),
    lambda: nc.AvgPool2D(2, stride=1),
    nc.LeakyReLU,
    nc.PReLU,
    nc.GELU,
    nc.Hardswish,
    lambda: nc.AdaptiveAvgPool2D((3, 2)),
    lambda: nc.AdaptiveMaxPool2D(2),
    lambda: nc.Upsample2D((1, 2), "bilinear"),
    lambda: nc.ZeroPad2D(((1, 0), (0, 2))),
    lambda: nc.Reshape((-1, 2, 3)),
    nc.Flatten,
    nc.GlobalMaxPool2D,
    lambda: nc.GlobalAvgPool2D(keepdims=True),
    lambda: nc.GroupNorm(1, eps=0.5),  # a large eps, since few values may be nearly equal: an ill-posed case
    lambda: nc.LocalResponseNorm(3, alpha=0.5),
]
FEATURE_LAYERS = [lambda: nc.Dense(4), lambda: nc.Dense(7, bias=False), nc.ReLU, nc.Tanh, nc.Softmax]
FEATURE_LAYERS_OF_MODES = [
    lambda: lambda x: nc.BatchNorm(eps=0.5)(nc.Tanh()(x)),  # Tanh: the gradient of a bias before it is only rounding
    lambda: nc.Dropout(0.3),
]
IMAGE_LAYERS_OF_MODES = [*FEATURE_LAYERS_OF_MODES, lambda: nc.SpatialDropout(0.3)]


@st.composite
def models(draw, modes=True):
    """Draw a DAG of up to ten layers on one or two inputs; values without a reader are outputs, others may be.

    All outputs but the first may be auxiliary. With ``modes``, some layers behave differently in training.
    """
    image_layers = IMAGE_LAYERS + IMAGE_LAYERS_OF_MODES * modes
    feature_layers = FEATURE_LAYERS + FEATURE_LAYERS_OF_MODES * modes
    inputs = [nc.Input((draw(st.integers(2, 7)), draw(st.integers(2, 7)), 3)) for _ in range(draw(st.integers(1, 2)))]
    tensors, unread = list(inputs), set()
    for _ in range(draw(st.integers(1, 10))):
        x = draw(st.sampled_from(tensors))
        alike = [tensor for tensor in tensors if tensor.shape == x.shape]
        if len(alike) > 1 and draw(st.booleans()):
            read = draw(st.lists(st.sampled_from(alike), min_size=2, max_size=3))
            y = draw(st.sampled_from([nc.Add, nc.Concat]))()(read)
            if draw(st.booleans()):
                read = read[:2]
                y = nc.Multiply()(read)
        else:
            read, layer = [x], draw(st.sampled_from(image_layers if len(x.shape) == 3 else feature_layers))()
            try:
                y = layer(x)
            except nc.GeometryError:  # the image is too small by now, or its channels do not divide
                continue
        unread = (unread - {id(tensor) for tensor in read}) | {id(y)}
        tensors.append(y)
    outputs = [tensor for tensor in tensors if id(tensor) in unread]
    if len(tensors) == len(inputs):
        outputs = [nc.Flatten()(inputs[0])]
    elif draw(st.booleans()):
        more = draw(st.sampled_from(tensors[len(inputs) :]))
        outputs += [more] * (more not in outputs)
    main = draw(st.integers(1, len(outputs)))
    model = nc.Model(inputs, outputs[:main], auxiliary=outputs[main:])
    note(f"outputs {model.graph.outputs} of\n{model.summary(show=False)}")
    return model


def arrays(model, batch=3):
    """Set random parameters; return inputs, and gradients of the outputs."""
    draw = np.random.default_rng(zlib.crc32(repr(to_dict(model.graph)).encode()))
    randomize(model, draw)
    return normals(draw, model.graph.input_shapes, batch), normals(draw, output_shapes(model), batch)
