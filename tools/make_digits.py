"""Make numbacnn/data/digits.npz from scikit-learn's copy of the UCI digits; run once, with scikit-learn installed.

Print the file's md5, which numbacnn/data/datasets.py contains. The archive holds the images as published,
(1797, 8, 8) uint8 from 0 to 16, their labels, and the indices of the test images: 36 of each digit, drawn with
seed 0.
"""

import hashlib
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TARGET = Path(__file__).parents[1] / "numbacnn" / "data" / "digits.npz"
TEST_IMAGES_PER_DIGIT = 36


def main() -> None:
    """Write the archive."""
    digits = load_digits()
    labels = digits.target.astype(np.uint8)
    generator = np.random.Generator(np.random.Philox(0))
    drawn = [generator.permutation(np.flatnonzero(labels == digit))[:TEST_IMAGES_PER_DIGIT] for digit in range(10)]
    test = np.sort(np.concatenate(drawn)).astype(np.uint16)
    np.savez_compressed(TARGET, images=digits.images.astype(np.uint8), labels=labels, test=test)
    print(hashlib.md5(TARGET.read_bytes(), usedforsecurity=False).hexdigest(), TARGET)


if __name__ == "__main__":
    main()
