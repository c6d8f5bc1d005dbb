"""Plots of trainings and models as matplotlib Figures: save one with ``save``, or show it in a notebook.

They need the extra ``plot`` (``pip install 'numbacnn[plot]'``), which is imported when a figure is made. The colors are
cividis, viridis, PuOr and palettes of Okabe and Ito and of Tol, which color-blind readers can distinguish.
"""

from numbacnn.plots.classification import confusion_matrix, mistakes
from numbacnn.plots.figures import save
from numbacnn.plots.layers import feature_maps, filters, grad_cam
from numbacnn.plots.predictions import evenly_chosen, predictions
from numbacnn.plots.roofline import Point, roofline
from numbacnn.plots.training import gradient_norms, training_curves
from numbacnn.plots.values import class_activation_map, confident_mistakes, layer_gradient_norms

__all__ = [
    "Point",
    "class_activation_map",
    "confident_mistakes",
    "confusion_matrix",
    "evenly_chosen",
    "feature_maps",
    "filters",
    "grad_cam",
    "gradient_norms",
    "layer_gradient_norms",
    "mistakes",
    "predictions",
    "roofline",
    "save",
    "training_curves",
]
