"""The CPU's convolution algorithms, in order of preference."""

from numbacnn.kernels.convolution import ConvAlgorithm
from numbacnn.kernels.cpu.conv.blocked import Blocked
from numbacnn.kernels.cpu.conv.col2im import Col2Im
from numbacnn.kernels.cpu.conv.depthwise import Depthwise
from numbacnn.kernels.cpu.conv.direct import Direct
from numbacnn.kernels.cpu.conv.grouped import Grouped
from numbacnn.kernels.cpu.conv.pixel_pairs import PixelPairs
from numbacnn.kernels.cpu.conv.pool_backward import PoolBackward
from numbacnn.kernels.cpu.conv.pooled import Pooled
from numbacnn.kernels.cpu.conv.single_channel import SingleChannelPooled
from numbacnn.kernels.cpu.conv.winograd import Winograd

CONV_ALGORITHMS: tuple[ConvAlgorithm, ...] = (
    SingleChannelPooled(),
    Pooled(),
    PoolBackward(),
    Winograd(4),
    Winograd(2),
    Col2Im(),
    Depthwise(),
    Grouped(),
    PixelPairs(),
    Blocked(),
    Direct(),
)
