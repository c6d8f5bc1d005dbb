import numpy as np
from rule import Rule

import numbacnn as nc
from optimizers.test_adam import OPTIONS, adam


def lamb(w, dw, state, learning_rate, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01):
    stepped, state = adam(w, dw, state, 1.0, betas, eps)
    direction = w - stepped + weight_decay * w
    norms = np.linalg.norm(w), np.linalg.norm(direction)
    return w - learning_rate * (norms[0] / norms[1] if min(norms) > 0 else 1.0) * direction, state


RULE = Rule(nc.LAMB, lamb, 0.01, OPTIONS)
