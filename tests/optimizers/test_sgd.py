from pytorch import optim
from rule import Rule

import numbacnn as nc


def sgd(w, dw, state, learning_rate, momentum=0.0, nesterov=False, weight_decay=0.0):
    gradient = dw + weight_decay * w
    velocity = momentum * (0.0 if state is None else state) + gradient
    step = gradient + momentum * velocity if nesterov else velocity
    return w - learning_rate * step, velocity


RULE = Rule(
    nc.SGD,
    sgd,
    0.05,
    options=[
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.1},
        {"momentum": 0.5, "weight_decay": 0.01, "nesterov": True},
    ],
    usual={"momentum": 0.9},
    pytorch={
        "SGD": (lambda: nc.SGD(0.02), lambda p: optim.SGD(p, 0.02)),
        "SGD momentum": (
            lambda: nc.SGD(0.02, momentum=0.9, weight_decay=0.01),
            lambda p: optim.SGD(p, 0.02, momentum=0.9, weight_decay=0.01),
        ),
        "SGD Nesterov": (
            lambda: nc.SGD(0.02, momentum=0.9, nesterov=True),
            lambda p: optim.SGD(p, 0.02, momentum=0.9, nesterov=True),
        ),
    },
)
