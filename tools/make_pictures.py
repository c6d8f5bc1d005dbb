"""Draw the pictures of the documentation, docs/pictures/*.png: a training of LeNet-5 on MNIST.

python tools/make_pictures.py [mnist | FOLDER]    needs the extra ``plot``
"""

import os
import sys
import tempfile
from pathlib import Path

from numbacnn.cli import main as numbacnn
from PIL import Image

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
COLORS = {"curves": 64, "filters": 256, "features": 128}  # a palette keeps each file small


def run(*arguments: str) -> None:
    """Run a command of the command line."""
    if code := numbacnn(arguments):
        sys.exit(code)


def main() -> None:
    """Train, draw each kind of plot, and write it with a palette."""
    data = sys.argv[1] if len(sys.argv) > 1 else "mnist"
    data = str(Path(data).resolve()) if Path(data).is_dir() else data
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that the title shows the name alone
        run("train", "--recipe", "mnist-fast", "--data", data, "--validation", "0.1", "--out", "mnist-fast")
        for kind, colors in COLORS.items():
            run("plot", "mnist-fast", kind, "--out", f"{kind}.png")
            with Image.open(f"{kind}.png") as image:
                small = image.convert("RGB").quantize(colors, dither=Image.Dither.NONE)
            small.save(PICTURES / f"{kind}.png", optimize=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
