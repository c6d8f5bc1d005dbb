"""CPU kernels: parallel ``@njit`` functions, and ``launchers``, the functions that call them."""

from numbacnn.kernels.registry import load_launchers

launchers = load_launchers(__name__)
