"""Representative layers, and the notation for other ones.

A case is ``OP INPUT[->FILTERS][/WINDOW[/STRIDE[/PADDING]]]``: "conv2d 56x56x128->128/3/2/1" is a 3×3 convolution of
images of 56×56 pixels and 128 channels to 128 filters, at stride 2 with one pixel of padding. A pool has no filters, a
dense layer is "dense 400->120", an optimizer's update of 16,777,216 parameters "update 16777216".
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from numbacnn import layers as nl
from numbacnn._checks import choose
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape
from numbacnn.layers import Layer

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, UPDATE = DIRECTIONS = (
    "forward",
    "input-gradient",
    "weight-gradient",
    "update",
)
WEIGHTED = ("conv2d", "depthwise_conv2d", "dense")
CUSTOM, OUT_OF_CACHE = "custom", "out of cache"
SPEC = re.compile(r"(\d+(?:x\d+)*)(?:->(\d+))?((?:/\d+){0,3})")


class Case(NamedTuple):
    """A layer, the shape of one image, and a batch size; of the op "update", the number of parameters.

    ``algorithm`` is that of a conv2d.
    """

    op: str
    spec: str
    batch: int
    origin: str = CUSTOM  # the networks that have such a layer
    algorithm: str = "auto"

    def __str__(self) -> str:
        return f"{self.op} {self.spec}"

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions to measure. The input gradient of a normalization includes those of its parameters."""
        if self.op == "update":
            return (UPDATE,)
        return DIRECTIONS[:3] if self.op in WEIGHTED else DIRECTIONS[:2]

    @property
    def shape(self) -> Shape:
        """The shape of one image."""
        return self._parsed[0]

    @property
    def is_wide_3x3(self) -> bool:
        """Whether it is a 3×3 convolution at stride 1 with at least 64 input channels and filters."""
        shape, filters, (window, stride, _) = self._parsed
        return self.op == "conv2d" and (window, stride) == (3, 1) and min(shape[-1], filters) >= 64

    @property
    def is_representative(self) -> bool:
        """Whether the geometric means include it: convolutions of networks."""
        return self.op in ("conv2d", "depthwise_conv2d") and self.origin not in (OUT_OF_CACHE, CUSTOM)

    def layer(self) -> Layer:
        """Make the layer, without a bias, whose gradient would be timed along with the weights'.

        Raises:
            ArgumentError: the notation is wrong.
        """
        _, filters, numbers = self._parsed
        if self.op in ("conv2d", "dense") and not filters:
            raise ArgumentError(
                f'"{self.spec}" has no filters; write {self.spec.partition("/")[0]}->64, as in {EXAMPLES}'
            )
        made = OPS[self.op](filters, *numbers)
        return made if self.algorithm == "auto" else replace(made, algorithm=self.algorithm)  # type: ignore[call-arg]

    @property
    def _parsed(self) -> tuple[Shape, int, tuple[int, int, int]]:
        match = SPEC.fullmatch(self.spec)
        if match is None:
            raise ArgumentError(
                f'"{self.spec}" is not a shape; write INPUT->FILTERS/WINDOW/STRIDE/PADDING, as in {EXAMPLES}'
            )
        shape = tuple(int(number) for number in match[1].split("x"))
        window, stride, padding = (*(int(number) for number in match[3].split("/")[1:]), *[0] * 3)[:3]
        return shape, int(match[2] or 0), (window or 1, stride or 1, padding)


EXAMPLES = "conv2d 28x28x64->128/3/1/1, max_pool2d 28x28x64/2/2, dense 400->120, batch_norm 28x28x64, update 1000000"

OPS: dict[str, Callable[[int, int, int, int], Layer]] = {
    "conv2d": lambda k, r, s, p: nl.Conv2D(k, r, stride=s, padding=p, bias=False),
    "depthwise_conv2d": lambda k, r, s, p: nl.DepthwiseConv2D(r, stride=s, padding=p, bias=False),
    "dense": lambda k, r, s, p: nl.Dense(k, bias=False),
    "max_pool2d": lambda k, r, s, p: nl.MaxPool2D(r, s, padding=p),
    "avg_pool2d": lambda k, r, s, p: nl.AvgPool2D(r, s, padding=p),
    "batch_norm": lambda k, r, s, p: nl.BatchNorm(),
    "relu": lambda k, r, s, p: nl.ReLU(),
}
ALL_OPS = (*OPS, "update")


def _cases(op: str, origin: str, batch: int, *specs: str) -> list[Case]:
    return [Case(op, spec, batch, origin) for spec in specs]


# Batch sizes keep a call to some milliseconds: 64 for MNIST, 32 up to 14×14 pixels, 8 for larger images, 2 for 224×224.
CASES = (
    *_cases("conv2d", "LeNet-5", 64, "28x28x1->6/5/1/2", "14x14x6->16/5"),
    *_cases("conv2d", "two convolutions", 64, "28x28x1->32/3/1/1", "14x14x32->64/3/1/1"),
    *_cases("conv2d", "AlexNet", 2, "224x224x3->64/11/4/2"),
    *_cases("conv2d", "AlexNet", 8, "27x27x64->192/5/1/2"),
    *_cases("conv2d", "VGG", 2, "224x224x3->64/3/1/1"),
    *_cases("conv2d", "VGG", 8, "112x112x64->128/3/1/1", "56x56x128->256/3/1/1", "28x28x256->512/3/1/1"),
    *_cases("conv2d", "VGG", 32, "14x14x512->512/3/1/1"),
    *_cases("conv2d", "ResNet", 2, "224x224x3->64/7/2/3"),
    *_cases("conv2d", "ResNet", 8, "56x56x64->64/3/1/1", "28x28x128->128/3/1/1"),
    *_cases("conv2d", "ResNet", 32, "14x14x256->256/3/1/1", "7x7x512->512/3/1/1"),
    *_cases("conv2d", "ResNet", 8, "56x56x128->128/3/2/1", "56x56x64->256/1", "28x28x512->128/1"),
    *_cases("conv2d", "ResNet", 32, "14x14x256->1024/1", "7x7x2048->512/1"),
    *_cases("conv2d", "ResNet", 8, "28x28x512->1024/1/2"),
    *_cases("conv2d", "GoogLeNet", 8, "28x28x192->32/5/1/2"),
    *_cases("depthwise_conv2d", "MobileNet", 8, "112x112x32/3/1/1", "56x56x128/3/1/1"),
    *_cases("depthwise_conv2d", "MobileNet", 32, "14x14x512/3/1/1"),
    *_cases("dense", "LeNet-5", 64, "400->120"),
    *_cases("dense", "two convolutions", 64, "3136->128"),
    *_cases("dense", "VGG", 8, "25088->4096"),
    # Memory-bound layers, too large for any cache: 100 to 400 MB each.
    *_cases("depthwise_conv2d", OUT_OF_CACHE, 64, "112x112x32/3/1/1"),
    *_cases("batch_norm", OUT_OF_CACHE, 64, "56x56x128"),
    *_cases("max_pool2d", OUT_OF_CACHE, 64, "112x112x64/2/2", "112x112x64/3/2/1"),
    *_cases("avg_pool2d", OUT_OF_CACHE, 64, "112x112x64/2/2"),
    *_cases("update", OUT_OF_CACHE, 1, "33554432"),
)


def select(ops: Sequence[str] = (), patterns: Sequence[str] = ()) -> list[Case]:
    """Return the cases of these ops for which a pattern matches a part of "OP SPEC ORIGIN".

    Raises:
        ArgumentError: an op is unknown, or no case is left.
    """
    for op in ops:
        choose("op", op, dict.fromkeys(ALL_OPS))
    found = [case for case in CASES if (not ops or case.op in ops) and _matches(case, patterns)]
    if not found:
        asked = " and ".join([*([f"op {', '.join(ops)}"] if ops else []), *([", ".join(patterns)] if patterns else [])])
        raise ArgumentError(f"no case matches {asked}; there are cases of {', '.join(ALL_OPS)}, such as {CASES[0]}")
    return found


def in_directions(chosen: Iterable[Case], directions: Sequence[str] = ()) -> list[tuple[Case, str]]:
    """Return each case in each of its directions, or in those of ``directions``.

    Raises:
        ArgumentError: no case has one of the directions.
    """
    allowed = directions or DIRECTIONS
    found = [(case, direction) for case in chosen for direction in case.directions if direction in allowed]
    if not found:
        raise ArgumentError(f"none of these cases has the direction {' or '.join(directions)}")
    return found


def custom_case(op: str, spec: str, batch: int) -> Case:
    """Make a case of any shape.

    Raises:
        ArgumentError: the op is unknown, or the notation wrong.
        GeometryError: the shape is impossible for the layer.
    """
    case = Case(choose("op", op, dict.fromkeys(ALL_OPS, op)), spec, batch)
    if op == "update":
        _ = case.shape
    else:
        case.layer().output_shape([case.shape])
    return case


def _matches(case: Case, patterns: Sequence[str]) -> bool:
    text = f"{case} {case.origin}".lower()
    return not patterns or any(fnmatchcase(text, f"*{pattern.lower()}*") for pattern in patterns)
