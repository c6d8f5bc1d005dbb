"""
Segment images
==============

A small U-Net finds the class of every pixel. The images are made here, as arrays;
photographs and masks in a folder are read by ``nc.data.load``.
"""

import numpy as np

import numbacnn as nc

SIDE, CLASSES = 32, ["ground", "disc", "box"]


def scenes(count, seed):
    """Return images of a disc and a box on noise, and their masks."""
    random = np.random.default_rng(seed)
    images = random.normal(90, 25, (count, SIDE, SIDE, 1))
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for image, mask in zip(images, masks, strict=True):
        for number in (1, 2):
            y, x, r = *random.integers(7, SIDE - 7, 2), random.integers(4, 8)
            dy, dx = abs(rows - y), abs(columns - x)
            inside = dy**2 + dx**2 < r**2 if number == 1 else np.maximum(dy, dx) < r
            mask[inside] = number
            image[inside] += 60
    return nc.data.Dataset.from_arrays(
        images.clip(0, 255).astype(np.uint8), masks, CLASSES
    )


train, test = scenes(400, seed=0), scenes(100, seed=1)
model = nc.models.unet_small(train.images.shape[1:], len(CLASSES))
model.fit(
    train,
    optimizer=nc.AdamW(0.004),
    schedule="cosine",
    epochs=6,
    batch_size=16,
    progress=False,
)

# %%
# Images, their masks, and what the network finds:
found = nc.plots.predictions(model, test.images[:3], test.labels[:3])

# %%
# The fraction of pixels that are right, and the mean intersection over union:
model.evaluate(test)
