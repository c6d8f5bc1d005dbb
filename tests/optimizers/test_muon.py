import numpy as np
from rule import Rule

import numbacnn as nc
from optimizers.test_adamw import adamw

VECTOR_RATE = 0.001  # of AdamW, by default


def muon(w, dw, state, learning_rate, momentum=0.95, nesterov=True, weight_decay=0.0, iterations=5):
    """Muon (Jordan 2024) on a matrix, or an array whose last axis is the columns; AdamW on a vector."""
    if w.ndim == 1:
        return adamw(w, dw, state, learning_rate * VECTOR_RATE / LEARNING_RATE)
    mean = momentum * (0.0 if state is None else state) + (1 - momentum) * dw
    x = ((1 - momentum) * dw + momentum * mean if nesterov else mean).reshape(-1, w.shape[-1])
    x = orthogonalized(x, iterations)
    wide = np.sqrt(max(1, x.shape[1] / x.shape[0]))
    return (1 - learning_rate * weight_decay) * w - learning_rate * wide * x.reshape(w.shape), mean


def orthogonalized(x, iterations):
    """U·p(p(… S))·Vᵀ, where x / ‖x‖ = U·S·Vᵀ and p is the quintic of the Newton-Schulz iteration."""
    u, s, v = np.linalg.svd(x / np.linalg.norm(x), full_matrices=False)
    for _ in range(iterations):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u * s @ v


LEARNING_RATE = 0.02
RULE = Rule(
    nc.Muon,
    muon,
    LEARNING_RATE,
    options=[{}, {"nesterov": False}, {"momentum": 0.5, "weight_decay": 0.1}, {"iterations": 2}],
)


def test_others_have_their_own_learning_rate(rng):
    slow, fast = (nc.Sequential([nc.Dense(3)], (4,), seed=1) for _ in range(2))
    start = slow.parameters["dense_1.bias"].copy()
    x, dy = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    for model, rate in ((slow, 0.001), (fast, 0.003)):
        model.forward(x, training=True)
        model.backward(dy)
        nc.Muon(others=nc.AdamW(rate, weight_decay=0.0)).step(model)
    np.testing.assert_allclose(
        fast.parameters["dense_1.bias"] - start, 3 * (slow.parameters["dense_1.bias"] - start), rtol=1e-5
    )
    np.testing.assert_array_equal(fast.parameters["dense_1.weight"], slow.parameters["dense_1.weight"])
