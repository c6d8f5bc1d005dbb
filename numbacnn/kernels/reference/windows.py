"""The index arithmetic of windows, with which convolutions and pools share one definition."""


def taps(g):
    """Yield (p, q, r, s, i, j): output (p, q) reads pixel (i, j) of the input through tap (r, s) of its window.

    i = p·stride + r·dilation − padding, j = q·stride + s·dilation − padding. Taps that fall into the padding are left
    out: the padding is zeros. g: ConvGeometry.
    """
    for p in range(g.p):
        for q in range(g.q):
            for r in range(g.r):
                for s in range(g.s):
                    i = p * g.stride_h + r * g.dilation_h - g.pad_top
                    j = q * g.stride_w + s * g.dilation_w - g.pad_left
                    if 0 <= i < g.h and 0 <= j < g.w:
                        yield p, q, r, s, i, j


def corners(g):
    """Yield (p, q, i, j): the window of output (p, q) starts at pixel (i, j), negative in the padding."""
    for p in range(g.p):
        for q in range(g.q):
            yield p, q, p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left


def inside(i, j, g):
    """The rows and the columns of the input that the window starting at (i, j) covers."""
    return slice(max(0, i), min(g.h, i + g.r)), slice(max(0, j), min(g.w, j + g.s))


def bins(g):
    """Yield (p, q, rows, columns) of each bin: bin p of P over h pixels is [⌊p·h/P⌋, ⌈(p+1)·h/P⌉)."""
    for p in range(g.p):
        for q in range(g.q):
            rows = slice(p * g.h // g.p, -(-(p + 1) * g.h // g.p))
            columns = slice(q * g.w // g.q, -(-(q + 1) * g.w // g.q))
            yield p, q, rows, columns
