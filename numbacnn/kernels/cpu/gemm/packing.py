"""Weights copied into panels as wide as the register tile, for products whose B would be strided or out of reach."""

from typing import NamedTuple

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.gemm.gemm import PANEL
from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.cpu.simd.vector import LANES, transpose
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined


class Pack(NamedTuple):
    """How B lies in the weights: column j of term (t_0, t_1, t_2) is at ``offset + Σ t·step + j·column_step``."""

    columns: int
    column_step: int
    offset: int
    count_0: int
    count_1: int
    count_2: int
    step_0: int
    step_1: int
    step_2: int


@cpu_kernel(float32_4d, float32_4d, Pack)
def pack_panels(packed, w, g):
    """B in panels of terms × PANEL, columns beyond the last zero. Each thread owns a range of (t_0, t_1, panel): the
    weights of neighbouring panels often share a page of memory."""
    p_packed, p_w = address(packed), address(w)
    for item in prange(-(-g.columns // PANEL) * g.count_0 * g.count_1):
        _pack_item(np.intp(item), p_packed, p_w, g)


@inlined
def _pack_item(item, packed, w, g):
    """All t_2 of one panel, t_0 and t_1."""
    panels = -(-g.columns // PANEL)
    t, panel = item // panels, item % panels
    columns = min(PANEL, g.columns - panel * PANEL)
    p_target = packed + 4 * (panel * g.count_0 * g.count_1 + t) * g.count_2 * PANEL
    target = floats(p_target, g.count_2 * PANEL)
    source = g.offset + t // g.count_1 * g.step_0 + t % g.count_1 * g.step_1 + panel * PANEL * g.column_step
    if columns < PANEL:
        target[:] = 0
    if g.column_step == 1:
        for t_2 in range(g.count_2):
            row = floats(w + 4 * (source + t_2 * g.step_2), columns)
            for j in range(columns):
                target[t_2 * PANEL + j] = row[j]
    else:
        for j in range(0, columns, LANES):  # terms are contiguous: step_2 is 1
            for t_2 in range(0, g.count_2, LANES):
                transpose(
                    p_target + 4 * (t_2 * PANEL + j),
                    4 * PANEL,
                    w + 4 * (source + j * g.column_step + t_2),
                    4 * g.column_step,
                    columns - j,
                    g.count_2 - t_2,
                )
