"""Which digit an image shows: trains LeNet-5, and prints how well it does and what it takes one image for.

python examples/classify.py            on the embedded digits
python examples/classify.py --fast     an epoch
"""

import argparse

import numbacnn as nc


def main():
    """Trains, and prints accuracy, the least sure class, and a prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    train, test = nc.data.load("digits")
    model = nc.models.lenet5(seed=0)
    model.fit(train, optimizer=nc.SGD(0.01, momentum=0.9), epochs=1 if options.fast else 10, batch_size=16)

    report = model.report(test)
    worst = report.per_class.f1.argmin()
    print(f"accuracy {report.accuracy:.2%}, least sure of {report.classes[worst]}: F1 {report.per_class.f1[worst]:.2%}")
    probabilities = model.predict(test.images[:1])[0]
    print(f"image 0 is a {test.labels[0]}, taken for a {probabilities.argmax()}, {probabilities.max():.1%} sure")


if __name__ == "__main__":
    main()
