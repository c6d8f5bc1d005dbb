"""The convolution algorithms on NVIDIA GPUs, in order of preference."""

from numbacnn.kernels.convolution import ConvAlgorithm
from numbacnn.kernels.cuda.conv.depthwise import Depthwise
from numbacnn.kernels.cuda.conv.implicit_gemm import ImplicitGemm

CONV_ALGORITHMS: tuple[ConvAlgorithm, ...] = (Depthwise(), ImplicitGemm())
