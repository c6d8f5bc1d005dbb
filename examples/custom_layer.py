"""Two custom layers: an activation from a scalar function, and a whole layer with a parameter and kernels.

python examples/custom_layer.py [--fast]
"""

import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numba import prange

import numbacnn as nc

ONE = np.float32(1)  # a Python number would make the arithmetic float64

# -- an activation: y from x, and dx from dy and x ---------------------------------------------------------------------


def swish(x):
    """x · σ(x)."""
    return x / (ONE + math.exp(-x))


def swish_gradient(dy, x):
    """dy · (σ(x) + x · σ(x) · (1 − σ(x)))."""
    s = ONE / (ONE + math.exp(-x))
    return dy * s * (ONE + x * (ONE - s))


Swish = nc.custom_activation("swish", swish, swish_gradient, rectifies=True)

# -- a whole layer: its kernels, and the class that calls them ---------------------------------------------------------


@nc.kernel
def scale(y, x, w):
    """y[n,h,w,c] = x[n,h,w,c] · w[c]. Each thread owns a range of image rows."""
    images, height, width, channels = x.shape
    for i in prange(images * height):
        n, h = i // height, i % height
        for j in range(width):
            for c in range(channels):
                y[n, h, j, c] = x[n, h, j, c] * w[c]


@nc.kernel
def scale_gradient(dw, dy, x):
    """dw[c] = Σ dy · x over images and pixels. Each thread owns a range of channels."""
    images, height, width, channels = x.shape
    for c in prange(channels):
        total = np.float32(0)
        for n in range(images):
            for h in range(height):
                for j in range(width):
                    total += dy[n, h, j, c] * x[n, h, j, c]
        dw[c] = total


@dataclass(eq=False)
class Scale(nc.Layer):
    """y = x · weight, with a trained factor for each channel."""

    op: ClassVar[str] = "scale"  # its name in model files
    reads_x: ClassVar[bool] = True  # backward needs the input

    initializer: str = "ones"  # fields are the constructor's arguments, and are saved

    def parameters(self, shapes):
        """Names, shapes and initializers of the trained arrays."""
        return {"weight": nc.ParameterSpec(shapes[0][-1:], self.initializer)}

    def forward(self, kernels, t, g):
        """Write t.y from t.x."""
        scale(t.y, t.x, t.weight)

    def backward(self, kernels, t, g):
        """Write t.d_weight, and t.dx if it is needed, from t.dy."""
        scale_gradient(t.d_weight, t.dy, t.x)
        if t.dx is not None:
            scale(t.dx, t.dy, t.weight)


def main(fast):
    """Check both layers, train with them, save, and load again."""
    for layer in (Swish(), Scale()):
        print(type(layer).__name__, nc.check_gradients(layer, (5, 6, 3)))
    train, test = nc.data.load("digits")
    layers = [nc.Conv2D(8, 5, stride=2), Scale(), Swish(), nc.Flatten(), nc.Dense(10)]
    model = nc.Sequential(layers, train.images.shape[1:], seed=0)
    model.fit(train, epochs=1 if fast else 5, optimizer=nc.SGD(0.02, momentum=0.9))
    print(f"accuracy {model.evaluate(test)['accuracy']:.3f}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "custom.safetensors"
        model.save(file)
        again = nc.load(file)  # in another program: nc.load(file, layers=[Swish, Scale]), or import their module first
    np.testing.assert_array_equal(again.predict(test.images), model.predict(test.images))


if __name__ == "__main__":
    main(fast="--fast" in sys.argv[1:])
