"""Uploaded images as a model's input, and its predictions as JSON."""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.dataset import Images
from numbacnn.data.fitting import FITS, Mask, Placement
from numbacnn.data.images import has_bright_border, read_placed
from numbacnn.data.palette import mask_colors
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError, DataError
from numbacnn.geometry import as_image
from numbacnn.model import Model
from numbacnn.tasks import Detection, Regression, Segmentation, Tagging

POLARITIES = ("auto", "keep", "invert")

Json = dict[str, Any]


class Upload(NamedTuple):
    """An image as the model takes it, (H, W, C) uint8, and where the pixels of the file are in it."""

    pixels: NDArray[np.uint8]
    placement: Placement

    @classmethod
    def of(cls, model: Model, content: bytes, polarity: str = POLARITIES[0]) -> "Upload":
        """Decode the content of an image file.

        Raises:
            ArgumentError: the model's input is not an image.
            DataError: the content is not an image, is damaged, or too large.
        """
        check_images(model)
        height, width, channels = model.input_shape
        trained = model.normalization and model.normalization.images
        fit, white = (trained.fit, trained.white) if trained else (FITS[0], None)
        pixels, placement = read_placed(io.BytesIO(content), height, width, channels, white=white, fit=fit)
        strokes = bool(trained and trained.strokes and trained.light_on_dark)
        if polarity == "invert" or (polarity == "auto" and strokes and has_bright_border(pixels)):
            pixels = 255 - pixels
        return cls(pixels, placement)

    @classmethod
    def raw(cls, model: Model, content: bytes) -> "Upload":
        """Take the bytes of an image that has the model's shape. Raises DataError if their number is wrong."""
        check_images(model)
        shape = height, width, _ = model.input_shape
        if len(content) != int(np.prod(shape)):
            raise DataError(f"{len(content)} bytes for an image of {'×'.join(map(str, shape))}; pass {np.prod(shape)}")
        return cls(np.frombuffer(content, np.uint8).reshape(shape), Placement.of((height, width), (height, width)))


def takes_images(model: Model) -> bool:
    """Return whether a model has one input, gray or RGB images, and one output."""
    shapes, outputs = model.graph.input_shapes, model.graph.outputs
    return len(shapes) == len(outputs) == 1 and len(shapes[0]) == 3 and shapes[0][2] in (1, 3)


def classes_of(model: Model) -> list[str]:
    """Return the classes that the page shows."""
    return list(model.class_names) if takes_images(model) else []


def check_images(model: Model) -> None:
    """Raise ArgumentError unless the model ``takes_images``."""
    if takes_images(model):
        return
    inputs, outputs = len(model.graph.input_shapes), len(model.graph.outputs)
    if inputs != 1 or outputs != 1:
        raise ArgumentError(
            f"the model has {_counted(inputs, 'input')} and {_counted(outputs, 'output')}; "
            "a page and its server take one of each"
        )
    shape = model.input_shape
    raise ArgumentError(f"the model's input has shape {shape}; a model that is served takes images, gray or RGB")


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def predict(model: Model, uploads: Sequence[Upload]) -> list[Json]:
    """Return the prediction of each image; all are computed as one batch."""
    images = np.stack([upload.pixels for upload in uploads])
    if model.task == Detection.name:
        return _boxes(model, images, uploads)
    if model.task == Segmentation.name:
        masks = zip(model.segment(images), uploads, strict=True)
        return [_mask(model.class_names, upload.placement.restored_mask(mask)) for mask, upload in masks]
    return _rows(model, model.predict(images))


def predict_from(model: Model, output: NDArray[np.float32], upload: Upload) -> Json:
    """Return the prediction of one image, of which the output (1, …) of the model is known."""
    if model.task in (Detection.name, Segmentation.name):
        return predict(model, [upload])[0]
    with engine_lock:
        y = model.device.zeros((1, *as_image(output.shape[1:])))
        model.upload([y], [output])
        found = model.predictions(y, model.task, model.applied_activation(model.task))
    return _rows(model, found.reshape(1, -1))[0]


def _rows(model: Model, predictions: NDArray[np.float32]) -> list[Json]:
    """Return rows (N, classes) of ``Model.predict`` as JSON values."""
    rows, names = predictions.tolist(), model.class_names
    if model.task == Regression.name:
        return [{"values": row} for row in rows]
    found = [dict(zip(names, row, strict=True)) for row in rows]
    if model.task == Tagging.name:
        return [{"probabilities": row} for row in found]
    return [{"class": names[row.index(max(row))], "probabilities": each} for row, each in zip(rows, found, strict=True)]


def _boxes(model: Model, images: Images, uploads: Sequence[Upload]) -> list[Json]:
    """Return the boxes of each image in pixels of its file, with classes and scores."""
    names, result = model.class_names, []
    for found, upload in zip(model.detect(images), uploads, strict=True):
        boxes = upload.placement.restored_boxes(found.boxes.astype(np.float64)).tolist()
        columns = zip(found.classes.tolist(), found.scores.tolist(), boxes, strict=True)
        result.append({"boxes": [{"class": names[i], "score": score, "box": box} for i, score, box in columns]})
    return result


def _mask(names: Sequence[str], mask: Mask) -> Json:
    """Return a mask as a PNG file of class numbers, in Base64, with the share of each class that occurs."""
    from PIL import Image

    if len(names) > 256:
        raise ArgumentError(f"a PNG mask holds at most 256 classes; the model has {len(names)}")
    image = Image.fromarray(mask.astype(np.uint8), "L")
    image.putpalette(mask_colors(len(names)).reshape(-1).tolist())
    file = io.BytesIO()
    image.save(file, "PNG")
    shares = np.bincount(mask.reshape(-1), minlength=len(names)) / mask.size
    return {
        "mask": base64.b64encode(file.getvalue()).decode(),
        "shares": {names[i]: float(share) for i, share in enumerate(shares) if share},
    }
