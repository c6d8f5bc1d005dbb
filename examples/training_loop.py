"""A custom training loop: forward, loss, backward, step; with a learning rate that warms up and then falls.

python examples/training_loop.py            LeNet-5 on the bundled digits
python examples/training_loop.py --fast     one epoch of a few images
"""

import argparse

import numpy as np

import numbacnn as nc


def normalized(images, data):
    """Normalize 8-bit images by the mean and standard deviation of the training set, to float32."""
    return ((images / 255 - data.mean) / data.std).astype(np.float32)


def main():
    """Train, and print the loss of every epoch and the test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    train, test = nc.data.load("digits")
    epochs = 1 if options.fast else 10
    if options.fast:
        train = train.subset(np.arange(320))

    model = nc.models.lenet5()
    optimizer = nc.AdamW(0.002, clip_norm=1.0, groups=[nc.ParamGroup("*.bias", weight_decay=0)])
    schedule = nc.schedules.Warmup(nc.schedules.cosine, 0.1)
    batches = nc.data.DataLoader(train, 32, seed=0)
    steps = epochs * len(batches)

    for epoch in range(epochs):
        losses = []
        for batch in batches.epoch(epoch):
            logits = model.forward(normalized(batch.images, train), training=True)
            loss, gradient = nc.losses.cross_entropy(logits, batch.labels)
            model.backward(gradient)
            optimizer.step(model, schedule(optimizer.steps, steps))
            losses.append(loss)
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")

    correct = model.forward(normalized(test.images, train)).argmax(axis=1) == test.labels
    print(f"test accuracy {correct.mean():.2%}")


if __name__ == "__main__":
    main()
