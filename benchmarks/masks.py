"""Segment small folders with the default command and with other losses: mean IoU on images not trained on.

    python benchmarks/masks.py [--seeds 2] [--loss LOSS …] [--folder DIR]

Each folder has 24 training images with masks and 40 test images of about 120×160 pixels. In ``spots``, objects of one
class cover 1 to 2 % of the pixels; in ``shapes`` there are four classes, two of them rare; in ``scenes`` there are
digits of ten classes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from numbacnn import data as data_sets

Picture = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # image and mask
TRAINING, TEST = 24, 40
SIZE = (120, 160)


def spots(rng: np.random.Generator) -> Picture:
    """Small bright discs on a mottled background."""
    height, width = SIZE
    mask, draw = _canvas()
    for _ in range(rng.integers(1, 5)):
        x, y, r = rng.uniform(10, width - 10), rng.uniform(10, height - 10), rng.uniform(4, 7)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=1)
    return _image(rng, np.array([[90, 80, 70], [150, 110, 90]]), np.asarray(mask)), np.asarray(mask)


def shapes(rng: np.random.Generator) -> Picture:
    """Large squares and bars, small discs and triangles."""
    height, width = SIZE
    mask, draw = _canvas()
    for kind in rng.choice(4, size=rng.integers(2, 5), p=[0.4, 0.4, 0.1, 0.1]):
        x, y = rng.uniform(10, width - 40), rng.uniform(10, height - 40)
        if kind == 0:
            draw.rectangle((x, y, x + 30, y + 30), fill=1)
        elif kind == 1:
            draw.rectangle((x, y, x + 36, y + 10), fill=2)
        elif kind == 2:
            draw.ellipse((x, y, x + 12, y + 12), fill=3)
        else:
            draw.polygon([(x, y + 12), (x + 14, y + 12), (x + 7, y)], fill=4)
    colors = np.array([[80, 90, 80], [140, 100, 90], [120, 130, 100], [140, 105, 95], [125, 125, 95]])
    return _image(rng, colors, np.asarray(mask)), np.asarray(mask)


def _canvas() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    mask = Image.new("L", SIZE[::-1])
    return mask, ImageDraw.Draw(mask)


def _image(rng: np.random.Generator, colors: NDArray[np.int64], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Color each class, with blotches and noise."""
    blotches = Image.fromarray(rng.normal(0, 1, (8, 10)).astype(np.float32))
    mottled = np.asarray(blotches.resize(SIZE[::-1], Image.Resampling.BICUBIC))[..., None]
    image = colors[mask] + 18 * mottled + rng.normal(0, 14, (*SIZE, 3))
    return image.clip(0, 255).astype(np.uint8)


KINDS: dict[str, Callable[[np.random.Generator], Picture]] = {"spots": spots, "shapes": shapes}


def make_folder(folder: Path, kind: str, seed: int) -> Path:
    """Write images and masks to ``folder``/train and ``folder``/test."""
    rng = np.random.default_rng(seed)
    for part, count in (("train", TRAINING), ("test", TEST)):
        scenes = None
        if kind == "scenes":
            train, test = data_sets.load("digits")
            scenes = data_sets.make_scenes(train if part == "train" else test, count, "masks", seed=seed)
        for name in ("images", "masks"):
            (folder / part / name).mkdir(parents=True)
        for number in range(count):
            image, mask = KINDS[kind](rng) if scenes is None else (scenes.images[number, ..., 0], scenes.labels[number])
            Image.fromarray(image).save(folder / part / "images" / f"{number}.png")
            Image.fromarray(mask.astype(np.uint8)).save(folder / part / "masks" / f"{number}.png")
    return folder


def train(folder: Path, out: Path, seed: int, options: list[str]) -> float:
    """Return the mean IoU on the test images of a run with the default command and ``options``."""
    numbacnn = [sys.executable, "-m", "numbacnn", "train", "--task", "segment"]
    command = [*numbacnn, "--data", str(folder), "--out", str(out), "--seed", str(seed), "--json", "-q", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(json.loads(done.stdout)["test"]["mean_iou"])


def main() -> None:
    """Print a line of JSON for each folder, loss and seed, and the mean over all for each loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--loss", nargs="+", default=["default", "cross_entropy", "dice"])
    parser.add_argument("--kind", nargs="+", default=[*KINDS, "scenes"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    root = options.folder or Path(tempfile.mkdtemp(prefix="masks-"))
    found: dict[str, list[float]] = {}
    for kind in options.kind:
        for seed in range(options.seeds):
            folder = make_folder(root / f"{kind}-{seed}", kind, seed)
            for loss in options.loss:
                given = [] if loss == "default" else ["--loss", loss]
                given += ["--class-weights", "equal"] if loss == "cross_entropy" else []
                start = time.perf_counter()
                value = train(folder, root / f"run-{kind}-{seed}-{loss}", seed, given)
                found.setdefault(loss, []).append(value)
                line = {"folder": kind, "seed": seed, "loss": loss, "mean_iou": round(value, 4)}
                print(json.dumps(line | {"seconds": round(time.perf_counter() - start, 1)}), flush=True)
    print(json.dumps({loss: round(float(np.mean(values)), 4) for loss, values in found.items()}))


if __name__ == "__main__":
    main()
