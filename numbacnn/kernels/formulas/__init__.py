"""The mathematics of elementwise kernels, defined once as functions of numbers; each device makes its kernels of them.

``FORMULAS`` holds those of ``activations``, ``arithmetic`` and ``updates``, ``ELEMENT_LOSSES`` those of ``losses``.
"""

from numbacnn.kernels.formulas import activations, arithmetic, updates
from numbacnn.kernels.formulas.formula import FORMULAS, Formula
from numbacnn.kernels.formulas.losses import ELEMENT_LOSSES

__all__ = ["ELEMENT_LOSSES", "FORMULAS", "Formula", "activations", "arithmetic", "updates"]
