"""Dense layers: 1×1 convolutions of images of one pixel."""

from functools import lru_cache

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cuda.conv import implicit_gemm
from numbacnn.kernels.registry import launcher


@launcher
def dense_forward(y, x, w, b, packed, relu=False):
    """y[n,k] = b[k] + Σ_c x[n,c] · w[c,k], then ReLU if asked. y: N×1×1×K; x: N×1×1×C; w: C×K; b: K or None."""
    implicit_gemm.gemm_forward(y, x, w, b, _geometry(*w.shape), relu)


@launcher
def dense_weight_gradient(dw, x, dy, shards=()):
    """dw[c,k] = Σ_n x[n,c] · dy[n,k]. shards: not used."""
    implicit_gemm.gemm_weight_gradient(dw, x, dy, _geometry(*dw.shape))


@launcher
def dense_input_gradient(dx, dy, w, packed, mask=None):
    """dx[n,c] = Σ_k dy[n,k] · w[c,k], zero where ``mask`` is given and not positive, as in convolution."""
    implicit_gemm.gemm_input_gradient(dx, dy, w, _geometry(*w.shape), mask)


@lru_cache(maxsize=1024)
def _geometry(c, k):
    return ConvGeometry(h=1, w=1, c=c, p=1, q=1, k=k, r=1, s=1)
