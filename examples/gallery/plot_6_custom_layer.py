"""
Write a custom layer
====================

An activation is two functions of numbers, which are compiled as part of the engine.
The gradient is checked against differences before it is used.
"""

import math

import matplotlib.pyplot as plt
import numpy as np

import numbacnn as nc

ONE = np.float32(1)  # a Python number would make the arithmetic float64


def tanh_exp(x):
    """x · tanh(eˣ): smooth, and a little below zero for negative x."""
    return x * math.tanh(math.exp(min(x, np.float32(20))))


def tanh_exp_gradient(dy, x):
    """dy · (tanh(eˣ) + x · eˣ · (1 − tanh²(eˣ)))."""
    e = math.exp(min(x, np.float32(20)))
    t = math.tanh(e)
    return dy * (t + x * e * (ONE - t * t))


TanhExp = nc.custom_activation("tanh_exp", tanh_exp, tanh_exp_gradient)
nc.check_gradients(TanhExp(), (5, 6, 3))

# %%
# The curve, computed by the layer itself:
x = np.linspace(-4, 3, 200, dtype=np.float32)
figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for layer in (TanhExp(), nc.ReLU()):
    ax.plot(
        x,
        nc.Sequential([layer], (200,)).forward(x[None])[0],
        label=type(layer).__name__,
    )
ax.set_xlabel("x")
ax.legend()

# %%
# Networks with both, trained alike:
train, test = nc.data.load("digits")
accuracies = {}
for layer in (TanhExp, nc.ReLU):
    layers = [nc.Conv2D(8, 5, stride=2), layer(), nc.Flatten(), nc.Dense(10)]
    model = nc.Sequential(layers, train.images.shape[1:], seed=0)
    model.fit(train, epochs=5, optimizer=nc.SGD(0.02, momentum=0.9), progress=False)
    accuracies[layer.__name__] = model.evaluate(test)["accuracy"]
accuracies
