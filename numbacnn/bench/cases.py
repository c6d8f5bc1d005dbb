"""The representative shapes, and the notation in which one names a case of one's own.

A case is ``OP INPUT[->FILTERS][/WINDOW[/STRIDE[/PADDING]]]``: "conv2d 56x56x128->128/3/2/1" is a 3×3 convolution of
images of 56×56 pixels and 128 channels to 128 filters at stride 2, with one pixel of padding. A pool has no filters, a
dense layer is "dense 400->120", an update of so many parameters "update 16777216".
"""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from math import prod
from typing import Any, NamedTuple

from numbacnn import layers as nl
from numbacnn._checks import choose
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape
from numbacnn.layers import Layer

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, STEP = DIRECTIONS = (
    "forward",
    "input-gradient",
    "weight-gradient",
    "step",  # of an optimiser
)
WEIGHTED = ("conv2d", "depthwise_conv2d", "dense")
FORM = re.compile(r"(\d+(?:x\d+)*)(?:->(\d+))?((?:/\d+){0,3})")


class Case(NamedTuple):
    """A layer, the shape of one image, and a batch; of the op "update", the number of parameters."""

    op: str
    spec: str
    batch: int
    origin: str = "your own"  # the networks it is taken from

    def __str__(self) -> str:
        return f"{self.op} {self.spec}"

    @property
    def directions(self) -> tuple[str, ...]:
        """What there is to measure. The input gradient of a normalisation comes with those of its parameters."""
        if self.op == "update":
            return (STEP,)
        return DIRECTIONS[:3] if self.op in WEIGHTED else DIRECTIONS[:2]

    @property
    def shape(self) -> Shape:
        """Of one image."""
        return self._parsed[0]

    @property
    def is_wide_3x3(self) -> bool:
        """A 3×3 convolution at stride 1 of 64 channels and more on both sides."""
        shape, filters, (window, stride, _) = self._parsed
        return self.op == "conv2d" and (window, stride) == (3, 1) and min(shape[-1], filters) >= 64

    @property
    def bytes_of_input(self) -> int:
        """Of the whole batch."""
        return 4 * self.batch * prod(self.shape)

    def layer(self) -> Layer:
        """The layer, without a bias: its gradient would be timed with the weights'. Raises ArgumentError."""
        _, filters, numbers = self._parsed
        if self.op in ("conv2d", "dense") and not filters:
            raise ArgumentError(
                f'"{self.spec}" names no filters; write {self.spec.partition("/")[0]}->64, as in {EXAMPLES}'
            )
        return OPS[self.op](filters, *numbers)

    @property
    def _parsed(self) -> tuple[Shape, int, tuple[int, int, int]]:
        match = FORM.fullmatch(self.spec)
        if match is None:
            raise ArgumentError(
                f'"{self.spec}" is no shape; write INPUT->FILTERS/WINDOW/STRIDE/PADDING, as in {EXAMPLES}'
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


def _table(op: str, origin: str, batch: int, *specs: str) -> list[Case]:
    return [Case(op, spec, batch, origin) for spec in specs]


# Batches keep a call to some milliseconds: 64 for MNIST, 32 for images of 14² and below, 8 for larger ones, 2 for 224².
CASES = (
    *_table("conv2d", "LeNet-5", 64, "28x28x1->6/5/1/2", "14x14x6->16/5"),
    *_table("conv2d", "two convolutions", 64, "28x28x1->32/3/1/1", "14x14x32->64/3/1/1"),
    *_table("conv2d", "AlexNet", 2, "224x224x3->64/11/4/2"),
    *_table("conv2d", "AlexNet", 8, "27x27x64->192/5/1/2"),
    *_table("conv2d", "VGG", 2, "224x224x3->64/3/1/1"),
    *_table("conv2d", "VGG", 8, "112x112x64->128/3/1/1", "56x56x128->256/3/1/1", "28x28x256->512/3/1/1"),
    *_table("conv2d", "VGG", 32, "14x14x512->512/3/1/1"),
    *_table("conv2d", "ResNet", 2, "224x224x3->64/7/2/3"),
    *_table("conv2d", "ResNet", 8, "56x56x64->64/3/1/1", "28x28x128->128/3/1/1"),
    *_table("conv2d", "ResNet", 32, "14x14x256->256/3/1/1", "7x7x512->512/3/1/1"),
    *_table("conv2d", "ResNet", 8, "56x56x128->128/3/2/1", "56x56x64->256/1", "28x28x512->128/1"),
    *_table("conv2d", "ResNet", 32, "14x14x256->1024/1", "7x7x2048->512/1"),
    *_table("conv2d", "ResNet", 8, "28x28x512->1024/1/2"),
    *_table("conv2d", "GoogLeNet", 8, "28x28x192->32/5/1/2"),
    *_table("depthwise_conv2d", "MobileNet", 8, "112x112x32/3/1/1", "56x56x128/3/1/1"),
    *_table("depthwise_conv2d", "MobileNet", 32, "14x14x512/3/1/1"),
    *_table("dense", "LeNet-5", 64, "400->120"),
    *_table("dense", "two convolutions", 64, "3136->128"),
    *_table("dense", "VGG", 8, "25088->4096"),
    # What memory bounds, at sizes out of any cache: 100 to 400 MB each.
    *_table("depthwise_conv2d", "out of cache", 64, "112x112x32/3/1/1"),
    *_table("batch_norm", "out of cache", 64, "56x56x128"),
    *_table("max_pool2d", "out of cache", 64, "112x112x64/2/2", "112x112x64/3/2/1"),
    *_table("avg_pool2d", "out of cache", 64, "112x112x64/2/2"),
    *_table("update", "out of cache", 1, "33554432"),
)


def representative(case: Case) -> bool:
    """Whether the case counts in the geometric means over the representative shapes: the convolutions in cache."""
    return case.op in ("conv2d", "depthwise_conv2d") and case.origin not in ("out of cache", "your own")


def select(ops: Sequence[str] = (), patterns: Sequence[str] = ()) -> list[Case]:
    """The cases of these ops whose text, "OP SPEC ORIGIN", one of the patterns matches. Raises ArgumentError where
    an op is not known, or nothing is left."""
    for op in ops:
        choose("op", op, dict.fromkeys(ALL_OPS))
    found = [case for case in CASES if (not ops or case.op in ops) and _matches(case, patterns)]
    if not found:
        asked = " and ".join([*([f"op {', '.join(ops)}"] if ops else []), *([", ".join(patterns)] if patterns else [])])
        raise ArgumentError(f"no case matches {asked}; the cases are of {', '.join(ALL_OPS)}, such as {CASES[0]}")
    return found


def in_directions(chosen: Iterable[Case], directions: Sequence[str]) -> list[tuple[Case, str]]:
    """Each case with each of the directions that it has; all of them by default. Raises ArgumentError where none has
    any."""
    wanted = directions or DIRECTIONS
    found = [(case, direction) for case in chosen for direction in case.directions if direction in wanted]
    if not found:
        raise ArgumentError(f"none of these cases has a direction {' or '.join(directions)}")
    return found


def custom_case(op: str, spec: str, batch: int) -> Case:
    """A case of one's own. Raises ArgumentError, or GeometryError, where the layer cannot be."""
    case = Case(choose("op", op, dict.fromkeys(ALL_OPS, op)), spec, batch)
    if op == "update":
        _ = case.shape
        return case
    layer = case.layer()
    layer.output_shape([case.shape])
    return case


def _matches(case: Case, patterns: Iterable[str]) -> bool:
    text = f"{case} {case.origin}".lower()
    wanted: list[Any] = [f"*{pattern.lower()}*" for pattern in patterns]
    return not wanted or any(fnmatchcase(text, pattern) for pattern in wanted)
