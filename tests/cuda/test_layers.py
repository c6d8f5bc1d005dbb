"""The case table of layers on device "cuda": each case against the same model on the CPU, and again for its bits.

On a GPU all cases run; the simulator, where a case takes a second, has a few of each layer.
"""

from itertools import groupby

import pytest
from cases import CASES, PICKED
from engine import assert_results_close, assert_same_bits, case_arrays, one_layer, run

from numbacnn.kernels.cuda import shim

TOLERANCE = 1e-4  # relative norm, of the sums of other orders


def chosen():
    """All cases; for the simulator of each kind the smallest."""
    if not shim.SIMULATED:
        return CASES
    by_kind = groupby(sorted(PICKED, key=_kind), key=_kind)
    return [min(cases, key=_work) for _, cases in by_kind]


def _kind(case):
    return case.layer().op


def _work(case):
    shapes = [*case.shapes, case.layer().output_shape(case.shapes)]
    elements = 1
    for shape in shapes:
        for size in shape:
            elements *= size
    return case.batch * elements


@pytest.mark.parametrize("case", chosen(), ids=str)
def test_layers_match_the_cpu_and_repeat_their_bits(case):
    model = one_layer(case)
    twin = one_layer(case, device="cuda")
    xs, dys = case_arrays(case, model)
    expected, found = run(model, xs, dys), run(twin, xs, dys)
    assert_results_close(found, expected, str(case), TOLERANCE)
    assert_same_bits(run(twin, xs, dys), found, f"{case}: again")
