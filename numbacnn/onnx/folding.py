"""Constants of an ONNX file: arrays with their sizes checked, and operators on constants alone, computed at once."""

import warnings
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from numbacnn._checks import brief
from numbacnn.errors import ModelFileError
from numbacnn.onnx.values import Constant

WIDTHS = {
    TensorProto.FLOAT: 4, TensorProto.DOUBLE: 8, TensorProto.FLOAT16: 2, TensorProto.UINT8: 1, TensorProto.INT8: 1,
    TensorProto.INT32: 4, TensorProto.INT64: 8, TensorProto.BOOL: 1, TensorProto.UINT16: 2, TensorProto.INT16: 2,
    TensorProto.UINT32: 4, TensorProto.UINT64: 8,
}  # fmt: skip

Inputs = Sequence[Constant | None]


def constant_of(tensor: onnx.TensorProto, folder: Path | None) -> Constant:
    """Return the array of a stored tensor. Raises ModelFileError if its data and its shape do not fit each other.

    External data is read from a file in ``folder``, that of the model, and nowhere else.
    """
    shape = tuple(tensor.dims)
    if tensor.data_type not in WIDTHS:
        raise ModelFileError(
            f'the tensor "{brief(tensor.name)}" has numbers of the unsupported type {tensor.data_type}'
        )
    if any(size < 0 for size in shape):
        raise ModelFileError(f'the tensor "{brief(tensor.name)}" has the shape {shape}')
    size = prod(shape) * WIDTHS[tensor.data_type]
    if tensor.data_location == TensorProto.EXTERNAL:
        raw = _external(tensor, size, folder)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
    if tensor.HasField("raw_data") and len(tensor.raw_data) != size:
        raise ModelFileError(
            f'the tensor "{brief(tensor.name)}" {shape} has {len(tensor.raw_data):,} bytes, not {size:,}'
        )
    try:
        array: Constant = numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise ModelFileError(f'the tensor "{brief(tensor.name)}" is damaged: {brief(error)}') from None
    return array


def _external(tensor: onnx.TensorProto, size: int, folder: Path | None) -> bytes:
    entries = {item.key: item.value for item in tensor.external_data}
    name = entries.get("location", "")
    if folder is None or not name or Path(name).name != name or (folder / name).is_symlink():
        raise ModelFileError(
            f'the data of "{brief(tensor.name)}" is in {brief(name)!r}; only files in the folder of the model are read'
        )
    offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(size)))
    file = folder / name
    if not file.is_file() or offset < 0 or length != size or offset + size > file.stat().st_size:
        raise ModelFileError(f'{file}: does not have the {size:,} bytes of "{brief(tensor.name)}" at {offset:,}')
    with file.open("rb") as stream:
        stream.seek(offset)
        found: bytes = stream.read(size)
        return found


# -- operators on constants, with the number of elements of the result, known before it is computed --------------------


def _largest(xs: Inputs) -> int:
    return max((x.size for x in xs if x is not None), default=1)


def _sum(xs: Inputs) -> int:
    return sum(x.size for x in xs if x is not None)


def _broadcast(xs: Inputs) -> int:
    return prod(np.broadcast_shapes(*(x.shape for x in xs if x is not None)))


def _shape(position: int) -> Callable[[Inputs], int]:
    """Return the size of a result whose shape is an input; that input may be broadcast with the first."""

    def size(xs: Inputs) -> int:
        shape = [max(1, int(n)) for n in _given(xs, position).reshape(-1)]
        return prod(shape) * (_given(xs, 0).size if position else 1)

    return size


def _gathered(xs: Inputs) -> int:
    data = _given(xs, 0)
    return data.size * max(1, _given(xs, 1).size)


def _padded(xs: Inputs) -> int:
    data, pads = _given(xs, 0), _given(xs, 1).astype(np.int64)
    return prod(size + int(abs(pads).sum()) for size in data.shape)  # of any axes


def _range(xs: Inputs) -> int:
    start, stop, step = (float(_given(xs, i)) for i in range(3))
    return int(abs((stop - start) / step)) + 1 if step else 1 << 62


def _given(xs: Inputs, position: int) -> Constant:
    x = xs[position] if position < len(xs) else None
    if x is None:
        raise ValueError("an input is missing")
    return x


FOLDED: dict[str, Callable[[Inputs], int]] = {
    **dict.fromkeys(
        [
            *("Cast", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Shape"),
            *("Neg", "Abs", "Sqrt", "Exp", "Log", "Floor", "Ceil", "Round", "Reciprocal", "Not", "Size", "Erf", "Sign"),
            *("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "Dropout", "CumSum", "CumProd"),
            *("Trilu", "QuantizeLinear", "Det"),
            *("ArgMax", "ArgMin", "TopK", "Unique", "Hardmax", "Compress", "EyeLike", "IsInf", "IsNaN", "BitwiseNot"),
            *("Scatter", "ScatterElements", "ScatterND", "GatherElements", "CastLike", "DequantizeLinear", "Clip"),
            *("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"),
            *("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
        ],
        _largest,
    ),
    **dict.fromkeys(
        [
            *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Equal", "Greater", "Less", "Where"),
            *("GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
        ],
        _broadcast,
    ),
    "Concat": _sum,
    "Gather": _gathered,
    "GatherND": _gathered,
    "NonZero": lambda xs: _given(xs, 0).size * max(1, _given(xs, 0).ndim),
    "OneHot": lambda xs: _given(xs, 0).size * max(1, int(_given(xs, 1).reshape(-1)[0])),
    "Einsum": lambda xs: prod(x.size for x in xs if x is not None),
    "Pad": _padded,
    **dict.fromkeys(["HannWindow", "HammingWindow", "BlackmanWindow"], lambda xs: max(0, int(_given(xs, 0)))),
    "Range": _range,
    "ConstantOfShape": _shape(0),
    "Expand": _shape(1),
    "Tile": _shape(1),
    "Constant": _largest,
}


def fold(node: onnx.NodeProto, xs: Inputs, opset: int, limit: int) -> list[Constant]:
    """Return the results of an operator on constants, of at most ``limit`` elements if the inputs have no more."""
    if node.op_type == "Constant":
        return [_stored(node)]
    label = f'{node.op_type} "{brief(node.name)}"'
    try:
        count = FOLDED[node.op_type](xs)
        if count > max(limit, _largest(xs)):
            raise ModelFileError(
                f"{label}: computes a constant of {count:,} elements, more than {limit:,}; "
                "if you trust the file: nc.onnx.load(path, max_computed=…)"
            )
        names = [name or f":{i}" for i, name in enumerate(node.input)]
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        inputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names if name[0] != ":"]
        outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
        graph = helper.make_graph([copy], "constant", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        feeds = {name: x for name, x in zip(names, xs, strict=True) if x is not None}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = ReferenceEvaluator(model).run(None, feeds)
    except ModelFileError:
        raise
    except Exception as error:  # the evaluator raises anything on a damaged node
        raise ModelFileError(f"{label}: {brief(error)}") from None
    return [np.asarray(array) for array in found]


def _stored(node: onnx.NodeProto) -> Constant:
    for item in node.attribute:
        if item.name == "value":
            return constant_of(item.t, None)
        if item.name in ("value_float", "value_floats"):
            return np.array(helper.get_attribute_value(item), np.float32)
        if item.name in ("value_int", "value_ints"):
            return np.array(helper.get_attribute_value(item), np.int64)
    raise ModelFileError(f'Constant "{brief(node.name)}" has no numbers')
