"""The model that comes with the package, so that there is something to draw for without training."""

import tomllib
from importlib.resources import as_file, files

from numbacnn.model import Model, load
from numbacnn.serve.strokes import StrokeForm

NAMES = ("mnist",)
"""Names of bundled models; the file NAME.toml with each says how it was trained, and its accuracy."""

_FOLDER = files("numbacnn.serve") / "models"


def load_bundled(name: str, device: str = "cpu") -> Model:
    """Return a bundled model."""
    with as_file(_FOLDER / f"{name}.safetensors") as file:
        return load(file, device=device)


def load_form(name: str) -> StrokeForm:
    """Return the form of the strokes in the training images of a bundled model."""
    record = tomllib.loads((_FOLDER / f"{name}.toml").read_text("utf-8"))
    return StrokeForm(**record["form"])
