"""
Detect objects
==============

A one-stage detector finds boxes with classes and scores. The images are made
here, as arrays; images and boxes in a folder are read by ``nc.data.load``.
"""

import numpy as np

import numbacnn as nc

SIDE, CLASSES = 48, ["disc", "box"]


def scenes(count, seed):
    """Return images of some discs and boxes, and rows x0, y0, x1, y1, class."""
    random = np.random.default_rng(seed)
    images = random.normal(90, 15, (count, SIDE, SIDE, 1))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    boxes = []
    for image in images:
        found = []
        for _ in range(random.integers(1, 4)):
            (y, x), r = random.integers(10, SIDE - 10, 2), random.integers(5, 9)
            kind, dy, dx = random.integers(2), abs(rows - y), abs(columns - x)
            image[
                dy**2 + dx**2 < r**2 if kind == 0 else np.maximum(dy, dx) < r
            ] += 90
            found.append([x - r + 1, y - r + 1, x + r, y + r, kind])
        boxes.append(np.array(found, np.float32))
    return nc.data.Dataset.from_arrays(
        images.clip(0, 255).astype(np.uint8), boxes, CLASSES
    )


train, test = scenes(600, seed=0), scenes(100, seed=1)
model = nc.models.grid_detector(train.images.shape[1:], len(CLASSES))
model.fit(
    train,
    optimizer=nc.AdamW(0.004),
    schedule="cosine",
    epochs=10,
    batch_size=16,
    progress=False,
)

# %%
# Images with the boxes that are right, and those that are found:
few = test.subset(np.arange(6))
found = nc.plots.predictions(model, few.images, few.labels)

# %%
# Mean average precision, and the boxes of one image, the best first:
print(model.evaluate(test)["map_50"])
model.detect(test.images[:1])[0]
