"""No kernel writes outside its outputs or leaves one unwritten: every case and graph, between zones of poison."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
from cases import CASES
from engine import assert_results_close, case_arrays, case_oracle, one_layer, oracle
from graphs import NAMED, arrays
from guards import run_guarded

import numbacnn as nc

TESTS = Path(__file__).parent


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_write_all_of_their_outputs_and_nothing_else(case):
    """The buffers have room for two more images, which must stay poison."""
    model = one_layer(case)
    xs, dys = case_arrays(case, model)
    found = run_guarded(model, xs, dys, batch=case.batch + 2)
    assert_results_close(found, case_oracle(case), str(case))


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("make", NAMED, ids=lambda make: make.__name__)
def test_fused_kernels_write_all_of_their_outputs_and_nothing_else(make, fuse):
    model = make()
    xs, dys = arrays(model)
    assert_results_close(run_guarded(model, xs, dys, fuse=fuse), oracle(model, xs, dys), make.__name__, 1e-4)


class Careless(nc.Layer):
    """A layer that writes outside its output, or leaves an element unwritten."""

    op = "careless"

    def __init__(self, where="nowhere", name=None):
        super().__init__(name=name)
        self.where = where

    def attributes(self):
        return {"where": self.where}

    def forward(self, kernels, t, g):
        t.y[...] = t.x
        if self.where in ("after", "before"):
            element = t.y.size if self.where == "after" else -1
            ctypes.c_float.from_address(t.y.ctypes.data + 4 * element).value = 1.0

    def backward(self, kernels, t, g):
        first = 1 if self.where == "unwritten" else 0
        t.dx[..., first:] = t.dy[..., first:]


@pytest.mark.parametrize("where", ["after", "before", "unwritten", "nowhere"])
def test_the_guard_detects_violations(where, rng):
    model = nc.Model([x := nc.Input((3, 3, 5))], [Careless(where)(x)])
    xs, dys = ([rng.standard_normal((2, 3, 3, 5)).astype(np.float32)] for _ in range(2))
    if where == "nowhere":
        np.testing.assert_array_equal(run_guarded(model, xs, dys).dxs[0], dys[0])
    elif where == "unwritten":
        assert np.isnan(run_guarded(model, xs, dys).dxs[0][..., 0]).all()
    else:
        with pytest.raises(AssertionError, match="wrote outside a buffer"):
            run_guarded(model, xs, dys)
