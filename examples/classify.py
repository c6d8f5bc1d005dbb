"""Classify digits: train LeNet-5, and print its accuracy, its weakest class and a prediction.

python examples/classify.py            on the bundled digits
python examples/classify.py --fast     one epoch
"""

import argparse

import numbacnn as nc


def main():
    """Train, and print accuracy, the class with the lowest F1, and a prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    train, test = nc.data.load("digits")
    model = nc.models.lenet5(seed=0)
    model.fit(train, optimizer=nc.SGD(0.01, momentum=0.9), epochs=1 if options.fast else 10, batch_size=16)

    report = model.report(test)
    worst = report.per_class.f1.argmin()
    print(f"accuracy {report.accuracy:.2%}, lowest F1 {report.per_class.f1[worst]:.2%} for {report.classes[worst]}")
    (probabilities,) = model.predict(test.images[:1])
    predicted = probabilities.argmax()
    print(f"image 0 is a {test.labels[0]}, predicted {predicted} with probability {probabilities[predicted]:.1%}")


if __name__ == "__main__":
    main()
