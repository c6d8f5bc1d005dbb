from pytorch import optim
from rule import Rule

import numbacnn as nc
from optimizers.test_adam import OPTIONS, adam


def adamw(w, dw, state, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    return adam((1 - learning_rate * weight_decay) * w, dw, state, learning_rate, betas, eps)


RULE = Rule(
    nc.AdamW,
    adamw,
    0.01,
    OPTIONS,
    pytorch={
        "AdamW": (lambda: nc.AdamW(0.003), lambda p: optim.AdamW(p, 0.003)),
        "AdamW decay": (lambda: nc.AdamW(0.01, weight_decay=0.5), lambda p: optim.AdamW(p, 0.01, weight_decay=0.5)),
    },
)
