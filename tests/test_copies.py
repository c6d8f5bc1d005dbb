"""Models copied, pickled, saved and loaded."""

import copy
import pickle

import numpy as np
import pytest
from engine import assert_same_bits, listed_names, run
from graphs import SMALL, arrays

import numbacnn as nc
from numbacnn.errors import ModelFileError


def by_file(model, folder):
    model.save(folder / "m.safetensors")
    return nc.load(folder / "m.safetensors")


COPIES = {
    "file": by_file,
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("make", SMALL)
def test_copies_give_the_same_bits_and_are_independent(make, copied, tmp_path):
    model = make()
    xs, dys = arrays(model)
    expected = run(model, xs, dys)
    again = copied(model, tmp_path)
    model.set_parameters({name: np.zeros(array.shape) for name, array in model.parameters.items()})
    assert_same_bits(run(again, xs, dys), expected, make.__name__)
    assert listed_names(again) == listed_names(model)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_keep_classes_and_normalization(copied, tmp_path, rng):
    model, raw = nc.Sequential([nc.Flatten(), nc.Dense(3)], (5, 6, 2)), rng.integers(0, 256, (6, 5, 6, 2), np.uint8)
    model.fit((raw, [0, 1, 2, 0, 1, 2]), epochs=1, batch_size=4)
    again = copied(model, tmp_path)
    assert again.classes == model.classes == ("0", "1", "2")
    assert again.normalization == model.normalization
    np.testing.assert_array_equal(again.predict(raw), model.predict(raw))


def test_equal_models_have_equal_files(tmp_path):
    for i in range(8):
        SMALL[0]().save(tmp_path / f"{i}.safetensors")
    first, *others = ((tmp_path / f"{i}.safetensors").read_bytes() for i in range(8))
    assert others == [first] * 7
    start = first.index(b"__metadata__")
    keys = [b"digest", b"format", b"head", b"version"]
    assert sorted(keys, key=lambda key: first.index(b'"%s":' % key, start)) == keys


def test_files_that_are_not_models_are_rejected_by_name(tmp_path):
    with pytest.raises(ModelFileError, match=r"nothing\.safetensors: no such file"):
        nc.load(tmp_path / "nothing.safetensors")
    SMALL[0]().save(tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    for name, part in {
        "empty": b"",
        "text": b"hello world, this is not a model",
        "half": content[: len(content) // 2],
    }.items():
        (tmp_path / name).write_bytes(part)
        with pytest.raises(ModelFileError, match=f"{name}: not a numbacnn file, or damaged"):
            nc.load(tmp_path / name)
