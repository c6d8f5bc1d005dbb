"""Whole steps of every optimizer as its paper has them, in float64: each returns the new weights and its state.

``state`` is None before the first step.
"""

import numpy as np


def sgd(w, dw, state, learning_rate, momentum=0.0, nesterov=False, weight_decay=0.0):
    gradient = dw + weight_decay * w
    velocity = momentum * (0.0 if state is None else state) + gradient
    step = gradient + momentum * velocity if nesterov else velocity
    return w - learning_rate * step, velocity


def adam(w, dw, state, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    mean, square, step = state or (0.0, 0.0, 0)
    gradient, step = dw + weight_decay * w, step + 1
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * gradient**2
    unbiased, deviation = mean / (1 - betas[0] ** step), np.sqrt(square / (1 - betas[1] ** step))
    return w - learning_rate * unbiased / (deviation + eps), (mean, square, step)


def adamw(w, dw, state, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    return adam((1 - learning_rate * weight_decay) * w, dw, state, learning_rate, betas, eps)


def lamb(w, dw, state, learning_rate, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01):
    stepped, state = adam(w, dw, state, 1.0, betas, eps)
    direction = w - stepped + weight_decay * w
    norms = np.linalg.norm(w), np.linalg.norm(direction)
    return w - learning_rate * (norms[0] / norms[1] if min(norms) > 0 else 1.0) * direction, state


def rmsprop(w, dw, state, learning_rate, alpha=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0):
    square, mean, velocity = state or (0.0, 0.0, 0.0)
    gradient = dw + weight_decay * w
    square, mean = alpha * square + (1 - alpha) * gradient**2, alpha * mean + (1 - alpha) * gradient
    velocity = momentum * velocity + gradient / (np.sqrt(square - (mean**2 if centered else 0.0)) + eps)
    return w - learning_rate * velocity, (square, mean, velocity)


def adagrad(w, dw, state, learning_rate, eps=1e-10, initial_accumulator=0.0, weight_decay=0.0):
    gradient = dw + weight_decay * w
    total = (initial_accumulator if state is None else state) + gradient**2
    return w - learning_rate * gradient / (np.sqrt(total) + eps), total


def muon(w, dw, state, learning_rate, momentum=0.95, nesterov=True, weight_decay=0.0, iterations=5):
    """Muon (Jordan 2024) on a matrix, or an array whose last axis is the columns."""
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
