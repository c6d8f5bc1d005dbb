"""The case table of layers on device "cuda": each case against the CPU, and repeated for the same bits.

On a GPU all cases run; elsewhere, where a case takes a second, the smallest picked one of each layer.
"""

from math import prod

import pytest
from cases import CASES, PICKED
from emulation import EMULATED
from engine import assert_results_close, assert_same_bits, case_arrays, one_layer, run

TOLERANCE = 1e-4  # relative norm: sums have another order than on the CPU


def work(case):
    """Return the number of elements of inputs and outputs."""
    return case.batch * sum(map(prod, (*case.shapes, case.layer().output_shape(case.shapes))))


def chosen():
    """Return the cases that run here."""
    if not EMULATED:
        return CASES
    smallest = {}
    for case in PICKED:
        op = case.layer().op
        if op not in smallest or work(case) < work(smallest[op]):
            smallest[op] = case
    return list(smallest.values())


@pytest.mark.parametrize("case", chosen(), ids=str)
def test_layers_match_the_cpu_and_repeat_their_bits(case):
    model, twin = one_layer(case), one_layer(case, device="cuda")
    xs, dys = case_arrays(case, model)
    expected, found = run(model, xs, dys), run(twin, xs, dys)
    assert_results_close(found, expected, str(case), TOLERANCE)
    assert_same_bits(run(twin, xs, dys), found, f"{case}: again")
