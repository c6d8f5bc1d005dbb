"""Detect digits: train a one-stage detector on scenes of digits, and print its mean average precision.

python examples/detect.py            on 8,000 scenes, a few minutes
python examples/detect.py --fast     a few scenes
"""

import argparse

import numpy as np

import numbacnn as nc


def main():
    """Train, and print the metrics and the detections in one scene."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    train, test = nc.data.load("digits", labels="boxes", scenes=64 if options.fast else 8000)
    model = nc.models.grid_detector(train.images.shape[1:], len(train.classes))
    model.fit(
        train,
        optimizer=nc.AdamW(0.003),
        schedule=nc.schedules.Warmup(nc.schedules.cosine, 0.1),
        epochs=1 if options.fast else 6,
        batch_size=16,
    )
    test = test.subset(np.arange(20)) if options.fast else test
    found = model.evaluate(test)
    print(f"mAP@0.5 {found['map_50']:.2%}, mAP@0.5:0.95 {found['map']:.2%}")
    detections = model.detect(test.images[:1], score_threshold=0.4)[0]
    for box, label, score in zip(*detections, strict=True):
        print(f"scene 0: a {test.classes[label]} at {np.round(box, 1)}, score {score:.2f}")


if __name__ == "__main__":
    main()
