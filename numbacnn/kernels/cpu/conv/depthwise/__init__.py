"""Depthwise convolution and its two gradients, one vector of channels at a time.

Each channel has its own R·S weights, so there is no matrix product. Neighboring channels are contiguous and fill the
lanes instead.
"""
