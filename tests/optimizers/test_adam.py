import numpy as np
from pytorch import optim
from rule import Rule

import numbacnn as nc


def adam(w, dw, state, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    mean, square, step = state or (0.0, 0.0, 0)
    gradient, step = dw + weight_decay * w, step + 1
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * gradient**2
    unbiased, deviation = mean / (1 - betas[0] ** step), np.sqrt(square / (1 - betas[1] ** step))
    return w - learning_rate * unbiased / (deviation + eps), (mean, square, step)


OPTIONS = [{}, {"betas": (0.5, 0.9)}, {"weight_decay": 0.1}, {"eps": 0.1}, {"betas": (0.0, 0.0)}]
RULE = Rule(
    nc.Adam,
    adam,
    0.01,
    OPTIONS,
    pytorch={
        "Adam": (lambda: nc.Adam(0.001, weight_decay=0.01), lambda p: optim.Adam(p, 0.001, weight_decay=0.01)),
        "Adam betas": (
            lambda: nc.Adam(0.01, betas=(0.5, 0.9), eps=1e-3),
            lambda p: optim.Adam(p, 0.01, betas=(0.5, 0.9), eps=1e-3),
        ),
    },
)
