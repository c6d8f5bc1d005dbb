"""Sums have the same order on processors with fewer vector registers, or on which masks cost time."""

from processes import run_python

HASHES = """
import hashlib, sys
import numpy as np
from numbacnn.kernels import target

found = target._detect()
target._detect = lambda: target.Target(sys.argv[1], found.lanes, int(sys.argv[2]), found.fma)

import numbacnn as nc

rng = np.random.default_rng(0)
for shape, window, options in [
    ((9, 8, 33), 3, {"padding": 1}),
    ((9, 8, 48), 3, {"padding": 1, "stride": 2}),
    ((7, 9, 33), 5, {"padding": 2, "dilation": 2}),
    ((6, 5, 17), (4, 2), {}),
]:
    model = nc.Sequential([nc.DepthwiseConv2D(window, bias=False, **options)], shape)
    y = model.forward(rng.standard_normal((3, *shape)).astype(np.float32), training=True)
    model.backward(rng.standard_normal(y.shape).astype(np.float32))
    (gradient,) = model.gradients.values()
    print(hashlib.sha256(np.ascontiguousarray(gradient)).hexdigest())
"""


def test_depthwise_weight_gradients_have_the_same_bits(tmp_path):
    processors = [("AVX-512", 32), ("NEON", 32), ("AVX2", 16)]
    first, *others = (
        run_python("-c", HASHES, name, str(registers), NUMBACNN_CACHE_DIR=tmp_path / name)
        for name, registers in processors
    )
    assert len(set(first.split())) == 4
    assert others == [first, first]
