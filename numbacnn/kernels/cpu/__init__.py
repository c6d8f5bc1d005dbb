"""CPU kernels: parallel ``@njit`` functions, and the launchers that call them, in ``launchers``."""

from numbacnn.kernels.registry import load_launchers

launchers = load_launchers(__name__)
