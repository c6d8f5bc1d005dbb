"""Chains of transforms: their text, and the stages that run them."""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from functools import cached_property
from typing import TypeAlias

from numbacnn._checks import choose, number, shown
from numbacnn._checks.names import AnswersAttributes, ChecksArguments, checks_call
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import CLASSES
from numbacnn.data.mixing import CutMix, Mixing, Mixup
from numbacnn.data.transforms import (
    Affine,
    ColorJitter,
    Crop,
    Cutout,
    Elastic,
    Geometry,
    HorizontalFlip,
    Noise,
    PixelTransform,
    Rotate,
    Scale,
    Shear,
    Transform,
    Translate,
    VerticalFlip,
    as_text,
)  # fmt: skip
from numbacnn.errors import ArgumentError

Stage: TypeAlias = Geometry | tuple[int, PixelTransform | Mixing]
"""Transforms that run together: a warp, or a single transform with its index in the chain."""

TRANSFORMS: dict[str, type[Transform]] = {
    kind.name: kind
    for kind in (
        *(Rotate, Translate, Crop, Scale, Shear, HorizontalFlip, VerticalFlip, Elastic),
        *(Cutout, Noise, ColorJitter, Mixup, CutMix),
    )
}


class Compose(ChecksArguments, AnswersAttributes):
    """Transforms in sequence.

    Args:
        transforms: a transform, or several in their order.
        fill: the value of pixels outside the image and in cutouts, in the images' units.
    """

    def __init__(self, transforms: Transform | Sequence[Transform], fill: float = 0.0) -> None:
        transforms = [transforms] if isinstance(transforms, Transform) else list(transforms)
        for transform in transforms:
            if not isinstance(transform, Transform) or type(transform) not in TRANSFORMS.values():
                raise ArgumentError(f"augment: {shown(transform)} is not a transform; pass e.g. augment.Rotate(10)")
        self.transforms = tuple(transforms)
        self.fill = number(fill, "augment: fill", -1e6, 1e6)

    @classmethod
    def parse(cls, text: str) -> "Compose":
        """Parse ``NAME``, ``NAME=NUMBER:NUMBER…`` and ``…@P`` for a probability P, separated by commas.

        Raises:
            ArgumentError: a name is unknown (with the nearest one), or a number is not valid.
        """
        return cls([_parse(part.strip()) for part in text.split(",") if part.strip()])

    def __str__(self) -> str:
        """Return the text that ``parse`` reads, followed by ``fill`` unless that is 0."""
        return ", ".join(map(str, self.transforms)) + (f"; fill {as_text(self.fill)}" if self.fill else "")

    def __repr__(self) -> str:
        return f"Compose({list(self.transforms)}, fill={self.fill})"

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The transforms as they run: consecutive affine ones, with an elastic one after them, are one warp."""
        stages: list[Stage] = []
        for index, transform in enumerate(self.transforms):
            if isinstance(transform, Affine | Elastic):
                open_warp = stages and isinstance(stages[-1], Geometry) and not stages[-1].elastic
                warp = stages.pop() if open_warp else Geometry((), None)
                assert isinstance(warp, Geometry)
                if isinstance(transform, Elastic):
                    stages.append(warp._replace(elastic=(index, transform)))
                else:
                    stages.append(warp._replace(affine=(*warp.affine, (index, transform))))
            elif isinstance(transform, PixelTransform | Mixing):
                stages.append((index, transform))
        return tuple(stages)

    def check(self, dataset: Dataset, outputs: int) -> None:
        """Raise ArgumentError if the data set or the number of outputs of the model does not allow the chain."""
        if any(part.shape[1:3] != (1, 1) for part in dataset.others):
            raise ArgumentError(
                "augment: it changes one image; of several the model's first input, if no other is an image"
            )
        if not self.mixes:
            return
        if dataset.others:
            raise ArgumentError("augment: mixup and cutmix are for models with one input; remove them")
        if dataset.kind != CLASSES:
            raise ArgumentError(f"augment: mixup and cutmix cannot mix {dataset.kind}; remove them")
        if outputs == 1:
            raise ArgumentError("augment: mixup and cutmix need an output for each class; this model has one")

    @property
    def mixes(self) -> bool:
        """Whether labels become probabilities."""
        return any(isinstance(transform, Mixing) for transform in self.transforms)


Augmentation: TypeAlias = Compose | Transform | Sequence[Transform] | str


@checks_call
def get_augmentation(augment: Augmentation | None) -> Compose | None:
    """Make a chain from text, a transform or several; None if there is nothing to do."""
    if augment is None:
        return None
    if isinstance(augment, str):
        augment = Compose.parse(augment)
    elif isinstance(augment, Transform):
        augment = Compose([augment])
    elif isinstance(augment, list | tuple):
        augment = Compose(augment)
    if not isinstance(augment, Compose):
        raise ArgumentError(
            f"augment={shown(augment)}: pass transforms such as [augment.Rotate(10)], or text: 'rotate=10'"
        )
    return augment if augment.transforms else None


def _parse(part: str) -> Transform:
    head, _, probability = part.partition("@")
    name, _, listed = head.partition("=")
    kind = choose("transform", name.strip(), TRANSFORMS)
    values = [_parse_number(part, item) for item in listed.split(":")] if listed.strip() else []
    known = [item.name for item in fields(kind) if item.name != "p"]
    needed = sum(item.default is MISSING for item in fields(kind))
    if len(values) < needed:
        raise ArgumentError(f"augment: {part!r} needs a number: {kind.name}={':'.join(known).upper()}")
    if len(values) > len(known):
        raise ArgumentError(
            f"augment: {part!r} has {len(values)} numbers; {kind.name} takes {':'.join(known) or 'none'}"
        )
    return kind(*values, **{"p": _parse_number(part, probability)} if "@" in part else {})


def _parse_number(part: str, text: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise ArgumentError(f"augment: {text.strip()!r} in {part!r} is not a number; write rotate=10 or elastic=34:4")
