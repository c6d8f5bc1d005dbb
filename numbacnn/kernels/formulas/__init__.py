"""The mathematics of elementwise kernels, defined once as scalar functions; each device makes its kernels from them.

``FORMULAS`` holds those of ``activations``, ``arithmetic``, ``functions``, ``step`` and ``updates``; ``ELEMENT_LOSSES``
those of ``losses``.
"""

from numbacnn.kernels.formulas import activations, arithmetic, functions, step, updates
from numbacnn.kernels.formulas.formula import FORMULAS, Formula
from numbacnn.kernels.formulas.losses import ELEMENT_LOSSES

__all__ = ["ELEMENT_LOSSES", "FORMULAS", "Formula", "activations", "arithmetic", "functions", "step", "updates"]
