"""
Look at filters and feature maps
================================

What a network has learned, and what it makes of one image.
"""

import numbacnn as nc

train, test = nc.data.load("digits")
model = nc.models.lenet5(seed=0)
model.fit(
    train,
    optimizer=nc.SGD(0.01, momentum=0.9),
    epochs=8,
    batch_size=16,
    progress=False,
)

# %%
# The six filters of the first convolution. White is positive, black negative.
filters = nc.plots.filters(model)

# %%
# Each filter makes a map of the image; the maps of later layers are smaller, and
# less like the image.
maps = nc.plots.feature_maps(model, test.images[3], channels=6)

# %%
# ``model.activations`` returns the numbers themselves.
outputs = model.activations(test.images[:1])
{name: values.shape for name, values in outputs.items()}
