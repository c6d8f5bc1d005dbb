"""The launchers of ``kernels.numpy_launchers``."""

from numbacnn.kernels.numpy_launchers import register_all

register_all(__name__)
