"""Trains LeNet-5 on the embedded digits, and draws what it learns into a folder: look_inside.py FOLDER [--fast].

Needs matplotlib: pip install 'numbacnn[plot]'.
"""

import sys
from pathlib import Path

import numbacnn as nc


def main() -> None:
    folder, fast = Path(sys.argv[1]), "--fast" in sys.argv
    folder.mkdir(parents=True, exist_ok=True)
    train, test = nc.data.load("digits")
    model = nc.models.lenet5(seed=0)
    history = model.fit(
        train, validation=test, optimizer=nc.SGD(0.01, momentum=0.9), epochs=1 if fast else 10, batch_size=16
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
        nc.plots.save(figure, folder / f"{name}.png")
        print(folder / f"{name}.png")


if __name__ == "__main__":
    main()
