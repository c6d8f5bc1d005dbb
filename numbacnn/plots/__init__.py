"""Pictures of trainings and models, as matplotlib's Figures: save one with ``save``, or show it in a notebook.

They need the extra ``plot`` (``pip install 'numbacnn[plot]'``), which is imported when a picture is made. Colours are
cividis, viridis, PuOr, some of Okabe and Ito's and, for classes, some of Tol's, which colour-blind readers can tell
apart.
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
