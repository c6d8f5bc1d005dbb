"""
Ask a network where it looked: Grad-CAM
=======================================

Grad-CAM (Selvaraju et al. 2017) weights the maps of the last convolution by the
gradient of a class's score.
"""

import numpy as np

import numbacnn as nc
from numbacnn.serve.bundled import load_bundled

model = load_bundled("mnist")  # the model of ``numbacnn serve``
_, test = nc.data.load("digits")
image = test.images[np.flatnonzero(test.labels == 8)[0]]
evidence = nc.plots.grad_cam(model, image)

# %%
# The evidence for another class, which the network does not predict:
for_three = nc.plots.grad_cam(model, image, class_number=3)

# %%
# As numbers, one map for each image:
heat = nc.plots.class_activation_map(model, test.images[:4], test.labels[:4])
heat.shape
