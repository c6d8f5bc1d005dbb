"""Bands of rows, spread into scratch so that an output's inputs are in its lane."""

from typing import NamedTuple

from numbacnn.kernels.cpu.gemm.gemm import LANES
from numbacnn.kernels.cpu.simd.memory import floats
from numbacnn.kernels.cpu.simd.vector import WIDTH as STORED
from numbacnn.kernels.cpu.simd.vector import splat, store
from numbacnn.kernels.jit import inlined

WORKERS = 16  # each spreads one band at a time, in scratch of its own
BAND_FLOATS = 1 << 15  # of scratch, unless one row of outputs needs more


def group_channels(g):
    """Input and output channels of a group."""
    return g.c // g.groups, g.k // g.groups


class Fan(NamedTuple):
    """Each output channel sums ``terms`` input channels, which ``outputs`` channels share; ``band`` rows of outputs."""

    terms: int
    outputs: int
    band: int


def make_fan(rows, columns, terms, outputs):
    """Make a ``Fan`` with bands that fit the scratch."""
    row = max(1, terms * reach(columns) * LANES)
    spare = BAND_FLOATS // row - reach(rows._replace(count=1))
    return Fan(terms, outputs, max(1, min(rows.count, 1 + spare // rows.x_step)))


def reach(axis):
    """Pixels of x from the first that an axis reads to the last."""
    return (axis.count - 1) * axis.x_step + max(0, axis.taps - 1) * axis.x_tap + 1


def scratch_floats(rows, columns, fan):
    """Floats of a spread band, and of the weights for a vector of channels."""
    pixels = reach(rows._replace(count=fan.band)) * reach(columns)
    return (pixels + rows.taps * columns.taps) * fan.terms * LANES


class Band(NamedTuple):
    """The address of a band's first pixel, its strides in bytes, and its size in pixels."""

    x: int
    x_row: int
    x_pixel: int
    height: int
    width: int


@inlined
def spread(target, band, c, count, fan):
    """Spread a band for outputs c … c + count − 1.

    The lanes of a group are written by whole-vector stores, which spill into later lanes; those are overwritten later.
    """
    lane = 0
    while lane < count:
        group = (c + lane) // fan.outputs
        end = min(count, (group + 1) * fan.outputs - c)
        for row in range(band.height):
            for t in range(fan.terms):
                source = band.x + row * band.x_row + 4 * (group * fan.terms + t)
                line = target + 4 * ((row * fan.terms + t) * band.width * LANES + lane)
                for done in range(0, end - lane, STORED):
                    left = LANES - lane - done
                    for pixel in range(band.width):
                        value = splat(floats(source + pixel * band.x_pixel, 1)[0])
                        store(line + 4 * (pixel * LANES + done), value, left)
        lane = end
