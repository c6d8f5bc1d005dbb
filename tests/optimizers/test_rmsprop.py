import numpy as np
from pytorch import optim
from rule import Rule

import numbacnn as nc


def rmsprop(w, dw, state, learning_rate, alpha=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0):
    square, mean, velocity = state or (0.0, 0.0, 0.0)
    gradient = dw + weight_decay * w
    square, mean = alpha * square + (1 - alpha) * gradient**2, alpha * mean + (1 - alpha) * gradient
    velocity = momentum * velocity + gradient / (np.sqrt(square - (mean**2 if centered else 0.0)) + eps)
    return w - learning_rate * velocity, (square, mean, velocity)


RULE = Rule(
    nc.RMSprop,
    rmsprop,
    0.01,
    options=[
        {},
        {"momentum": 0.9},
        {"centered": True, "eps": 1e-3},
        {"momentum": 0.5, "centered": True, "alpha": 0.9, "weight_decay": 0.1, "eps": 1e-3},
    ],
    usual={"centered": True, "momentum": 0.9},
    tolerance=1e-3,  # of what is left of two squares that cancel
    pytorch={
        "RMSprop": (lambda: nc.RMSprop(0.003), lambda p: optim.RMSprop(p, 0.003)),
        "RMSprop momentum": (
            lambda: nc.RMSprop(0.003, alpha=0.9, momentum=0.9, weight_decay=0.1),
            lambda p: optim.RMSprop(p, 0.003, alpha=0.9, momentum=0.9, weight_decay=0.1),
        ),
        "RMSprop centered": (
            lambda: nc.RMSprop(0.003, momentum=0.5, centered=True, eps=1e-2),
            lambda p: optim.RMSprop(p, 0.003, momentum=0.5, centered=True, eps=1e-2),
        ),
    },
)
