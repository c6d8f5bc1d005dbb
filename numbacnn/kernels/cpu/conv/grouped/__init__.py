"""Convolution in narrow groups and its two gradients, one vector of output channels at a time.

Groups of few channels, as in ResNeXt or in depthwise convolution with several filters per channel, would leave the
lanes of the GEMM microkernel empty, and every group would be a launch. Here the lanes are neighboring output channels
of any groups, and the microkernels are those of depthwise convolution. Before they run, a band of the image is spread
in scratch, so that term t of an output's group is in the lane of the output:

    spread[row, t, pixel, lane] = x[row, pixel, group(lane) · terms + t]

The input gradient is the same with dy and the transposed weights of each group.
"""
