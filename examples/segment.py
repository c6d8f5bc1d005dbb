"""Segment digits: train a small U-Net on scenes of digits, and print its mean IoU.

python examples/segment.py            on 8,000 scenes, a few minutes
python examples/segment.py --fast     a few scenes
"""

import argparse

import numpy as np

import numbacnn as nc


def main():
    """Train, and print the metrics and the classes found in one scene."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    train, test = nc.data.load("digits", labels="masks", scenes=64 if options.fast else 8000)
    model = nc.models.unet_small(train.images.shape[1:], len(train.classes))
    model.fit(
        train,
        optimizer=nc.AdamW(0.004),
        schedule=nc.schedules.Warmup(nc.schedules.cosine, 0.1),
        augment="noise=0.02",  # masks follow the transforms that move pixels, such as rotate=10
        epochs=1 if options.fast else 5,
        batch_size=16,
    )
    test = test.subset(np.arange(20)) if options.fast else test
    found = model.evaluate(test)
    print(f"mean IoU {found['mean_iou']:.2%}, pixel accuracy {found['accuracy']:.2%}")
    mask = model.segment(test.images[:1])[0]
    print("scene 0 holds", ", ".join(test.classes[i] for i in np.unique(test.labels[0])), end="; ")
    print("found:", ", ".join(test.classes[i] for i in np.unique(mask)))


if __name__ == "__main__":
    main()
