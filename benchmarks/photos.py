"""Train on a folder of 24 photographs with the default command: seconds, peak memory, and accuracy on new ones.

    python benchmarks/photos.py [FOLDER]

The photographs are made: JPEGs of about 1200×900 pixels in several sizes, with noise, of a coast and of a forest.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZES = ((900, 1200), (1200, 900), (960, 1280), (1000, 1000), (768, 1024))


def coast(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """Sky, sea and sand in horizontal bands, each with a gradient."""
    rows = np.linspace(0, 1, height)[:, None, None]
    horizon, beach = rng.uniform(0.3, 0.5), rng.uniform(0.7, 0.85)
    sky, sea, sand = (
        np.array(color) + rng.normal(0, 12, 3) for color in ((150, 190, 235), (40, 90, 150), (205, 180, 130))
    )
    bands = np.where(rows < horizon, sky + 40 * rows, np.where(rows < beach, sea + 60 * (rows - horizon), sand))
    waves = 8 * np.sin(np.arange(width) / rng.uniform(20, 60) + rng.uniform(0, 6))[None, :, None]
    return np.broadcast_to(bands + waves * (rows > horizon), (height, width, 3))


def forest(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """Dark vertical trunks on mottled green."""
    leaves = np.array((60, 110, 50)) + rng.normal(0, 12, 3)
    blotches = Image.fromarray(rng.normal(0, 1, (24, 32)).astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    picture = leaves + 30 * np.asarray(blotches)[..., None]
    for center in rng.uniform(0, width, rng.integers(5, 12)):
        picture[:, np.abs(np.arange(width) - center) < rng.uniform(10, 40)] = np.array((70, 50, 35)) + rng.normal(
            0, 8, 3
        )
    return picture


CLASSES = {"coast": coast, "forest": forest}


def make_photos(folder: Path, count: int, seed: int = 0) -> Path:
    """Write ``count`` photographs, half of each class, to ``folder``/CLASS/*.jpg."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        name = list(CLASSES)[number % 2]
        height, width = SIZES[number % len(SIZES)]
        picture = CLASSES[name](rng, height, width) * rng.uniform(0.7, 1.2) + rng.normal(0, 14, (height, width, 3))
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number:03}.jpg", quality=88)
    return folder


def main() -> None:
    """Print one line of JSON."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="photos-"))
    photos, new = make_photos(folder / "photos", 24), make_photos(folder / "new", 40, seed=1)
    numbacnn = str(Path(sys.executable).with_name("numbacnn"))
    start = time.perf_counter()
    trained = subprocess.run(
        [numbacnn, "train", "--data", str(photos), "--out", str(folder / "run"), "--json"],
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # kilobytes, on Linux
    sys.stderr.write(trained.stderr)
    trained.check_returncode()
    files = sorted(map(str, new.rglob("*.jpg")))
    predicted = json.loads(
        subprocess.run(
            [numbacnn, "predict", str(folder / "run"), *files, "--json"], capture_output=True, check=True
        ).stdout
    )["predictions"]
    right = sum(item["classes"][0]["class"] == Path(item["image"]).parent.name for item in predicted)
    cache = os.environ.get("NUMBACNN_CACHE_DIR")
    found = {"seconds": round(seconds, 1), "peak_mib": peak >> 20, "accuracy": right / len(files), "cache": cache}
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
