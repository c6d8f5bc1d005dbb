"""Tensors under the right names, but of types and shapes that are not read: every reader names tensor and type."""

import json
from math import prod

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.engine.graph_format import to_dict
from numbacnn.errors import ModelFileError
from numbacnn.saving.format import CHECKPOINT_FORMAT, FORMAT, read_checkpoint
from numbacnn.saving.pretrained import state_dict_shapes

BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4} | {
    "C64": 64, "BOOL": 8, "U8": 8, "U16": 16, "U32": 32, "U64": 64, "I8": 8, "I16": 16, "I32": 32, "I64": 64
}  # fmt: skip
UNREAD = sorted(BITS.keys() - {"F64", "F32", "F16"})
AXES = [(1,) * 33, (1,) * 65, (0,) * 65]
SHAPES = [*AXES, (), (0,), (0, 4), (4, 0), (1 << 40, 0), (4, 4), (24,)]


@pytest.fixture
def model():
    return nc.Sequential([nc.Dense(4, name="fc")], (6,))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


def write(path, model, form, dtype="F32", shape=None):
    """Write a file of zeros that is right but for the type and the shape of "fc.weight"."""
    shapes = state_dict_shapes(model.graph)
    if form is not None:
        shapes["fc.weight"] = model.parameters["fc.weight"].shape
    head = {"graph": to_dict(model.graph), "classes": None, "normalization": None, "lists": [False, False]}
    header = {"__metadata__": {"format": form, "version": "1", "head": json.dumps(head)}} if form else {}
    end = 0
    for name, right in shapes.items():
        kind, dims = (dtype, right if shape is None else shape) if name == "fc.weight" else ("F32", right)
        start, end = end, end + prod(dims) * BITS[kind] // 8
        header[name] = {"dtype": kind, "shape": dims, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def message(path, read, *arguments):
    with pytest.raises(ModelFileError) as caught:
        read(*arguments)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("form", [None, FORMAT])
@pytest.mark.parametrize("dtype", UNREAD)
def test_load_weights_rejects_types_that_are_not_float(model, path, dtype, form):
    write(path, model, form, dtype)
    shape = (6, 4) if form else (4, 6)
    said = message(path, model.load_weights, path)
    assert said == (
        f'mismatched "fc.weight" is {dtype} {shape}, not F32 {shape}; '
        "convert to float32, as by tensor.float() in PyTorch: only F32, F16, F64 are read"
    )
    assert model.load_weights(path, strict=False).mismatched == ("fc.weight",)


def test_a_file_of_which_nothing_fits_is_rejected_with_its_types(path):
    model = nc.Sequential([nc.Dense(4, bias=False, name="fc")], (6,))
    write(path, model, None, "BF16")
    said = message(path, model.load_weights, path, False)
    assert said.startswith(
        "none of its tensors has the name, shape and type of a parameter; "
        'mismatched "fc.weight" is BF16 (4, 6), not F32 (4, 6); convert to float32'
    )


@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_load_weights_rejects_other_shapes(model, path, shape):
    write(path, model, None, shape=shape)
    found = f"with {len(shape)} axes" if shape in AXES else str(shape)
    assert message(path, model.load_weights, path) == f'mismatched "fc.weight" is F32 {found}, not F32 (4, 6)'
    assert model.load_weights(path, strict=False).mismatched == ("fc.weight",)


@pytest.mark.parametrize("dtype", [*UNREAD, "F16", "F64"])
def test_models_and_checkpoints_hold_float32_alone(model, path, dtype):
    for form, read in ((FORMAT, nc.load), (CHECKPOINT_FORMAT, read_checkpoint)):
        write(path, model, form, dtype)
        said = message(path, read, path)
        assert said.startswith(f'"fc.weight" is {dtype} (6, 4), but numbacnn writes F32: was the file changed')


@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_models_of_other_shapes_are_rejected(model, path, shape):
    write(path, model, FORMAT, shape=shape)
    said = message(path, nc.load, path)
    if shape in AXES:
        assert said.startswith(f'"fc.weight" is F32 with {len(shape)} axes, but numbacnn writes F32')
    else:
        assert said == f'"fc.weight" is float32 {shape}, not float32 (6, 4)'


def test_tensors_that_are_ignored_may_have_any_type(model, path):
    write(path, model, None, "BF16", (1,) * 65)
    other = nc.Sequential([nc.Dense(4, name="other")], (6,))
    with pytest.raises(ModelFileError, match=r'missing "other\.weight", "other\.bias"; unexpected "fc\.bias"$'):
        other.load_weights(path, ignore=["fc.weight"])


@pytest.mark.parametrize("dtype", ["F16", "F64"])
def test_other_floats_are_read(model, path, dtype):
    write(path, model, None, dtype)
    model.load_weights(path)
    np.testing.assert_array_equal(model.parameters["fc.weight"], np.zeros((6, 4)))
