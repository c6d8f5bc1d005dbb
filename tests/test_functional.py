"""``nc.functional``: every layer has a function, which matches the oracle."""

import inspect
import zlib

import numpy as np
import oracles
import pytest
from cases import CASES, PICKED
from engine import assert_close, case_arrays, one_layer

import numbacnn as nc
from numbacnn.errors import ArgumentError
from numbacnn.layers import REGISTRY, is_custom

SHORT = {"weight": "w", "bias": "b", "running_mean": "mean", "running_var": "variance"}
SOME = [*PICKED, *CASES[len(PICKED) :: 25]]


def test_every_op_has_a_function_and_a_case():
    ops = {op for op, layer in REGISTRY.items() if not is_custom(layer)}
    assert {case.layer().op for case in SOME} == ops
    assert all(callable(getattr(nc.functional, op)) for op in ops)


@pytest.mark.parametrize("case", SOME, ids=str)
def test_functions_match_the_oracle(case):
    model = one_layer(case)
    xs, _ = case_arrays(case, model)
    (node,) = model.graph.nodes
    layer, arrays = node.layer, oracles.custom_arrays(node, model.store.arrays())
    function = getattr(nc.functional, layer.op)
    fields = layer.attributes()
    options = {name: fields[name] for name in inspect.signature(function).parameters if name in fields}
    given = {SHORT.get(name, name): array for name, array in arrays.items()}
    y = function(xs) if len(xs) > 1 else function(*xs, **given, **options)
    key = (0, 1, zlib.crc32(b"op")) if layer.op.endswith("dropout") else None
    assert_close(y, oracles.forward(layer, [x.astype(np.float64) for x in xs], arrays, key), str(case))
    if key is None:
        np.testing.assert_array_equal(y, model.forward(xs)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.conv2d(np.zeros((1, 5, 5, 3)), np.zeros((3, 3, 2, 4))), r"\(3, 3, 3, 4\), not \(3, 3, 2, 4\)"),
        (lambda f: f.conv2d(np.zeros((1, 5, 5, 3)), np.zeros((3, 3, 3))), r"weights have shape \(3, 3, 3\)"),
        (lambda f: f.depthwise_conv2d(np.zeros((1, 5, 5, 3)), np.zeros((3, 3, 1, 4))), "1, 3·depth_multiplier"),
        (lambda f: f.conv2d_transpose(np.zeros((1, 5, 5, 3)), np.zeros((3, 3, 4))), r"pass \(r, s, k/groups, c\)"),
        (lambda f: f.conv2d_transpose(np.zeros((1, 2, 2, 3)), np.zeros((3, 3, 4, 3)), padding=3), "leaves -2×-2 of"),
        (lambda f: f.dense(np.zeros((1, 5)), np.zeros(5)), r"weights have shape \(5,\); pass \(in, out\)"),
        (lambda f: f.max_pool2d(np.zeros((1, 3, 3, 1)), 4), "window 4×4 exceeds the padded input 3×3"),
        (lambda f: f.add([np.zeros((2, 3)), np.zeros((1, 3))]), "number of images"),
        (lambda f: f.relu(np.zeros((0, 3))), "number of images"),
        (lambda f: f.relu(np.zeros((1, 3, 3))), r"input shape \(3, 3\)"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_rejected(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(nc.functional)
