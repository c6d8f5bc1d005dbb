"""No kernel writes beside its outputs, nor leaves one unwritten: every case and graph, between zones of poison."""

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
def test_kernels_keep_to_their_outputs_and_fill_them(case):
    """In the buffers of a batch larger by two images, which stay poison."""
    model = one_layer(case)
    xs, dys = case_arrays(case, model)
    found = run_guarded(model, xs, dys, batch=case.batch + 2)
    assert_results_close(found, case_oracle(case), str(case))


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("make", NAMED, ids=lambda make: make.__name__)
def test_fused_kernels_keep_to_their_outputs_and_fill_them(make, fuse):
    model = make()
    xs, dys = arrays(model)
    assert_results_close(run_guarded(model, xs, dys, fuse=fuse), oracle(model, xs, dys), make.__name__, 1e-4)


class Careless(nc.Layer):
    """Writes where its field says, beside what it should."""

    op = "careless"

    def __init__(self, where="nowhere", name=None):
        super().__init__(name=name)
        self.where = where

    def attributes(self):
        return {"where": self.where}

    def forward(self, kernels, t, g):
        t.y[...] = t.x
        if self.where in ("behind", "before"):
            beside = t.y.size if self.where == "behind" else -1
            ctypes.c_float.from_address(t.y.ctypes.data + 4 * beside).value = 1.0

    def backward(self, kernels, t, g):
        first = 1 if self.where == "unwritten" else 0
        t.dx[..., first:] = t.dy[..., first:]


@pytest.mark.parametrize("where", ["behind", "before", "unwritten", "nowhere"])
def test_the_guard_sees_what_it_is_for(where, rng):
    model = nc.Model([x := nc.Input((3, 3, 5))], [Careless(where)(x)])
    xs, dys = ([rng.standard_normal((2, 3, 3, 5)).astype(np.float32)] for _ in range(2))
    if where == "nowhere":
        np.testing.assert_array_equal(run_guarded(model, xs, dys).dxs[0], dys[0])
    elif where == "unwritten":
        assert np.isnan(run_guarded(model, xs, dys).dxs[0][..., 0]).all()
    else:
        with pytest.raises(AssertionError, match="wrote beside a buffer"):
            run_guarded(model, xs, dys)
