import numpy as np
from pytorch import optim
from rule import Rule

import numbacnn as nc


def adagrad(w, dw, state, learning_rate, eps=1e-10, initial_accumulator=0.0, weight_decay=0.0):
    gradient = dw + weight_decay * w
    total = (initial_accumulator if state is None else state) + gradient**2
    return w - learning_rate * gradient / (np.sqrt(total) + eps), total


RULE = Rule(
    nc.Adagrad,
    adagrad,
    0.05,
    options=[{}, {"initial_accumulator": 0.1}, {"weight_decay": 0.1}],
    pytorch={
        "Adagrad": (lambda: nc.Adagrad(0.02), lambda p: optim.Adagrad(p, 0.02)),
        "Adagrad start": (
            lambda: nc.Adagrad(0.02, initial_accumulator=0.3, weight_decay=0.1),
            lambda p: optim.Adagrad(p, 0.02, initial_accumulator_value=0.3, weight_decay=0.1),
        ),
    },
)
