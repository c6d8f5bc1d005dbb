"""Direct convolution and its two gradients, as GEMMs without im2col.

With a halo of zeros around each image, an output pixel's inputs are S·C contiguous floats (NHWC) for each row of the
window. A convolution is then a product of matrices whose rows overlap in memory, without copies or bounds checks.
"""
