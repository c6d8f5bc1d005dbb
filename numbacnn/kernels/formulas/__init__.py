"""The mathematics of elementwise kernels, defined once as scalar functions; each device makes its kernels from them.

``FORMULAS`` holds those of ``activations``, ``arithmetic``, ``step`` and ``updates``; ``ELEMENT_LOSSES`` of ``losses``.
"""

from numbacnn.kernels.formulas import activations, arithmetic, step, updates
from numbacnn.kernels.formulas.formula import FORMULAS, Formula
from numbacnn.kernels.formulas.losses import ELEMENT_LOSSES

__all__ = ["ELEMENT_LOSSES", "FORMULAS", "Formula", "activations", "arithmetic", "step", "updates"]
