"""ONNX's own test cases: their files and arrays, and what our network of one computes.

A file's operators are tested with an input as the network's, and the others as constants, as weights are. If the file
works across the first axis, that is not a batch, and the network gets one image or vector, of which we make a batch.
"""

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

import numbacnn as nc
from numbacnn.engine.device import get_device
from numbacnn.onnx import MAX_COMPUTED
from numbacnn.onnx.axes import channels_last
from numbacnn.onnx.files import constants_of, content_of
from numbacnn.onnx.folding import FOLDED
from numbacnn.onnx.reader import Reader

FLOATS = (np.float16, np.float32, np.float64)  # all are computed in float32


class Case(NamedTuple):
    """A model, its inputs and its outputs."""

    name: str
    model: onnx.ModelProto
    xs: list
    ys: list

    @property
    def op(self) -> str:
        """The last operator, which the case is about."""
        return self.model.graph.node[-1].op_type if self.model.graph.node else ""


@cache
def cases(kind: str) -> list[Case]:
    """All cases of a kind, but those that expand a function to its definition, and are otherwise the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [case for case in load_model_tests(kind=kind) if "_expanded" not in case.name]
        return [case for each in found for case in _cases_of(each)]


def _cases_of(case) -> Iterator[Case]:
    if case.model is not None:
        xs, ys = ([_stored(x) for x in part] for part in case.data_sets[0])
        yield Case(case.name, case.model, xs, ys)
        return
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    for data in sorted(folder.glob("test_data_set_*"))[:1]:
        xs, ys = (
            [_array(path, item) for path, item in zip(_files(data, kind), items, strict=False)]
            for kind, items in (("input", model.graph.input), ("output", model.graph.output))
        )
        yield Case(case.name, model, xs, ys)


def _stored(x):
    """An array; anything else, and arrays of numbers that NumPy does not have, as they are."""
    if isinstance(x, onnx.TensorProto) and helper.tensor_dtype_to_np_dtype(x.data_type).isbuiltin == 1:
        return numpy_helper.to_array(x)
    return np.asarray(x) if isinstance(x, np.generic) else x


def _files(data: Path, kind: str) -> list[Path]:
    return sorted(data.glob(f"{kind}_*.pb"), key=lambda path: int(path.stem.rpartition("_")[2]))


def _array(path: Path, item: onnx.ValueInfoProto):
    """An array, or for a sequence the message that it is."""
    if item.type.WhichOneof("value") != "tensor_type":
        return item
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def floats(xs) -> list[int]:
    """The inputs that may be a network's."""
    return [i for i, x in enumerate(xs) if isinstance(x, np.ndarray) and x.dtype in FLOATS and x.size]


def attempts(case: Case) -> Iterator[tuple[list[int], bool]]:
    """Which inputs are the network's, and whether their first axis is the batch."""
    some = floats(case.xs)
    if not some or not all(isinstance(x, np.ndarray) for x in case.xs):
        return
    first = some[0]
    same = [i for i in some if case.xs[i].ndim and case.xs[first].ndim and len(case.xs[i]) == len(case.xs[first])]
    same = [i for i in same if case.xs[i].ndim == case.xs[first].ndim]
    if case.xs[first].ndim:
        yield [first], True
        if len(same) > 1:
            yield same, True
    yield [first], False
    if len(some) > 1:
        yield some, False
        yield from (([i], batched) for i in some[1:] for batched in (True, False) if case.xs[i].ndim or not batched)


def computed(case: Case, symbolic: list[int], batched: bool) -> list[np.ndarray]:
    """The outputs of our network, whose inputs are those numbered ``symbolic``, as the file has them."""
    proto = onnx.ModelProto.FromString(case.model.SerializeToString())
    inputs = list(proto.graph.input)
    stored = [
        numpy_helper.from_array(x, item.name)
        for i, (x, item) in enumerate(zip(case.xs, inputs, strict=False))
        if i not in symbolic
    ]
    proto.graph.initializer.extend(stored)
    del proto.graph.input[:]
    proto.graph.input.extend([inputs[i] for i in symbolic])
    model = nc.Model.from_content(content_of(proto, batch_axis=batched), get_device("cpu"))
    feeds = [
        fed(proto, case.xs[i] if batched else case.xs[i][None], inputs[i].name, shape)
        for i, shape in zip(symbolic, model.graph.input_shapes, strict=True)
    ]
    ys = model.forward(feeds if len(feeds) > 1 else feeds[0])
    named = zip(ys if isinstance(ys, list) else [ys], proto.graph.output, strict=True)
    return [as_stored(proto, y, item.name, batched) for y, item in named]


def fed(proto: onnx.ModelProto, x: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An input in our layout."""
    moved = name in channels_last(proto.graph)
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 and not moved else x.reshape(len(x), *shape)


def as_stored(proto: onnx.ModelProto, y: np.ndarray, name: str, batched: bool) -> np.ndarray:
    """An output in the layout of the file."""
    moved = name in channels_last(proto.graph)
    y = y.transpose(0, 3, 1, 2) if y.ndim == 4 and not moved else y
    return y if batched else y[0]


def folds(case: Case) -> bool:
    """Whether the importer computes the case if all its inputs are constants, as for the shapes that files compute."""
    if any(node.op_type not in FOLDED for node in case.model.graph.node) or not case.model.graph.node:
        return False
    if any(not isinstance(array, np.ndarray) for array in [*case.xs, *case.ys]):
        return False
    proto = onnx.ModelProto.FromString(case.model.SerializeToString())
    named = zip(proto.graph.input, case.xs, strict=False)
    proto.graph.initializer.extend([numpy_helper.from_array(x, item.name) for item, x in named])
    try:
        reader = Reader(proto, constants_of(proto, None), MAX_COMPUTED)
        reader.compute()
    except nc.ModelFileError:
        return False
    for item, expected in zip(proto.graph.output, case.ys, strict=True):
        found = reader.values[item.name]
        assert found.dtype == expected.dtype, case.name
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7, err_msg=case.name)
    return True


def outcome(case: Case) -> str:
    """ "passed", "folded", or the error of the first attempt. Raises AssertionError if results differ."""
    error = "no input is an array of float numbers"
    if not all(isinstance(y, np.ndarray) and y.dtype in FLOATS for y in case.ys):
        return "folded" if folds(case) else "a result is not an array of float numbers"
    for number, (symbolic, batched) in enumerate(attempts(case)):
        try:
            found = computed(case, symbolic, batched)
        except nc.ModelFileError as rejected:
            error = error if number else str(rejected)
            continue
        for y, expected in zip(found, case.ys, strict=True):
            half = expected.dtype == np.float16  # the expected values have 11 bits
            np.testing.assert_allclose(
                y.reshape(expected.shape), expected, rtol=2e-3 if half else 1e-3, atol=1e-5, err_msg=case.name
            )
        return "passed"
    return "folded" if folds(case) else error
