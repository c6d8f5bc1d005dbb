"""Inspect a model: train LeNet-5, and plot its curves, mistakes, filters, feature maps and more, a PNG file each.

python examples/look_inside.py FOLDER            on the bundled digits
python examples/look_inside.py FOLDER --fast     one epoch
"""

import argparse
from pathlib import Path

import numbacnn as nc


def main():
    """Train, plot, and print the name of every file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    train, test = nc.data.load("digits")
    model = nc.models.lenet5(seed=0)
    history = model.fit(
        train, validation=test, optimizer=nc.SGD(0.01, momentum=0.9), epochs=1 if options.fast else 10, batch_size=16
    )
    norms = nc.plots.layer_gradient_norms(model, train.images[:64], train.labels[:64])
    figures = {
        "curves": nc.plots.training_curves(history),
        "confusion": nc.plots.confusion_matrix(model.report(test)),
        "mistakes": nc.plots.mistakes(model, test, 15),
        "filters": nc.plots.filters(model),
        "features": nc.plots.feature_maps(model, test.images[0]),
        "gradcam": nc.plots.grad_cam(model, test.images[0]),
        "gradients": nc.plots.gradient_norms(norms),
    }
    for name, figure in figures.items():
        nc.plots.save(figure, options.folder / f"{name}.png")
        print(options.folder / f"{name}.png")


if __name__ == "__main__":
    main()
