"""Folders of photographs: large, of several sizes, few; the defaults of their training, and where they are kept."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from command_line import numbacnn
from PIL import Image

import numbacnn as nc
from numbacnn import data
from numbacnn.data import store
from numbacnn.errors import ArgumentError, DataError
from numbacnn.runs.settings import Settings, parse_size

photos = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / "photos.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The 24 photographs of the benchmark."""
    return photos["make_photos"](tmp_path_factory.mktemp("photos"), 24)


def images_of(folder, *sizes, colored=True):
    """A folder with two classes of noise in these sizes."""
    rng = np.random.default_rng(0)
    for i, size in enumerate(sizes):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*size, 3) if colored else size, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "ab"[i % 2] / f"{i:02}.png")
    return folder


def test_defaults_of_photographs(folder):
    settings = Settings.resolve({"data": str(folder)})
    chosen = (settings.model, settings.size, settings.fit, settings.batch_size, settings.epochs)
    assert chosen == ("resnet18_small", "224x224", "crop", 4, 17)
    given = Settings.resolve({"data": str(folder), "model": "lenet5", "size": 32, "epochs": 1, "fit": "stretch"})
    assert (given.model, given.size, given.fit, given.epochs) == ("lenet5", 32, "stretch", 1)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)] * 4, ("lenet5", None, None)),
        ([(60, 64), (64, 40)], ("lenet5", None, None)),
        ([(96, 128)] * 4, ("resnet18_small", None, None)),
        ([(300, 400)] * 4, ("resnet18_small", "168x224", None)),
        ([(300, 400), (305, 400)], ("resnet18_small", "168x224", None)),
        ([(300, 400), (400, 300)], ("resnet18_small", "224x224", "crop")),
        ([(100, 120), (150, 110)], ("resnet18_small", "136x136", "crop")),
    ],
)
def test_sizes_decide(tmp_path, sizes, expected):
    settings = Settings.resolve({"data": str(images_of(tmp_path, *sizes))})
    assert (settings.model, settings.size, settings.fit) == expected


def test_masks_of_photographs_are_letterboxed_to_a_size_that_fits_in_memory(tmp_path, rng):
    for i, (h, w) in enumerate([(300, 400), (400, 300)] * 3):
        for kind, pixels in (("images", rng.integers(0, 256, (h, w, 3))), ("masks", np.ones((h, w)))):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / kind / f"{i}.png")
    settings = Settings.resolve({"data": str(tmp_path)})
    assert (settings.task, settings.model, settings.size, settings.fit) == (
        *("segment", "unet_small", "128x128", "letterbox"),
    )
    train, _ = data.load(tmp_path, size=(128, 128), fit="letterbox")
    assert train.fit == "letterbox"
    assert train.labels[0].mean() == 96 / 128


def test_more_photographs_get_larger_batches(tmp_path):
    settings = Settings.resolve({"data": str(images_of(tmp_path, *[(70, 70)] * 90))})
    assert (settings.batch_size, settings.epochs) == (16, 18)


@pytest.mark.parametrize("size", ["0", "12x", "x12", "12,13", "1.5", "-3", "12x13x3", 0])
def test_bad_sizes_are_rejected(size):
    with pytest.raises(ArgumentError, match="use a number of pixels, 224, or HEIGHTxWIDTH"):
        parse_size(size)


def test_train_and_predict(folder, tmp_path):
    """With fewer pixels than the default command, which benchmarks/photos.py measures."""
    options = ["--size", "96x128", "--json", "--out", tmp_path / "run", "-q"]
    trained = numbacnn("train", "--data", folder, *options)
    assert trained.code == 0, trained.err
    assert "for photographs, the defaults are --fit crop --model resnet18_small --batch-size 4" in trained.err
    model = nc.load(tmp_path / "run/model.safetensors")
    assert model.input_shape == (96, 128, 3)
    assert model.normalization.images.fit == "crop"
    new = sorted(photos["make_photos"](tmp_path / "new", 8, seed=1).rglob("*.jpg"))
    found = json.loads(numbacnn("predict", tmp_path / "run", *new, "--json").out)["predictions"]
    assert [item["classes"][0]["class"] for item in found] == [file.parent.name for file in new]
    assert numbacnn("verify", tmp_path / "run").code == 0
    assert numbacnn("train", "--out", tmp_path / "run", "--resume", "-q", "--cache", "disk").code == 0


def test_previews_are_in_the_size_of_training(folder, tmp_path):
    assert numbacnn("data", "preview", "--data", folder, "--columns", 3, "--out", tmp_path / "p.png").code == 0
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (4 + 3 * 228, 4 + 228 + 20)


def test_images_on_disk_are_those_in_memory(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, appauthor: tmp_path)
    splits = [data.load(folder, size=(30, 40), image_cache=cache) for cache in ("memory", "disk")]
    for memory, disk in zip(*splits, strict=True):
        assert store.is_on_disk(disk.images)
        assert not store.is_on_disk(memory.images)
        np.testing.assert_array_equal(memory.images, disk.images)
        assert memory.mean.tolist() == disk.mean.tolist()
    train, rest = splits[1][0].split(0.5)
    assert store.is_on_disk(train.images)
    assert store.is_on_disk(rest.images)
    assert not list((tmp_path / "images").iterdir())  # the files have no name, and end with the process


def test_images_that_would_not_fit_in_memory_are_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, appauthor: tmp_path)
    monkeypatch.setattr(store, "available_memory", lambda: 3000)
    assert not store.is_on_disk(store.empty_images((10, 10, 10, 1)))
    assert store.is_on_disk(store.empty_images((10, 10, 10, 2)))
    with pytest.raises(ArgumentError, match="cache 'ram'"):
        store.empty_images((1,), "ram")
    with pytest.raises(DataError, match="choose a smaller size"):
        store.empty_images((1 << 40, 1 << 18), "memory")


def test_available_memory_is_at_most_that_of_the_machine():
    assert 1 << 20 < store.available_memory() < 1 << 50


def test_defaults_follow_from_the_files_as_they_are_now(tmp_path):
    from numbacnn.runs.photographs import photograph_defaults
    from numbacnn.runs.small_sets import folder_defaults

    def write(side, count):
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            for number in range(count):
                Image.new("L", (side, side), number % 2).save(tmp_path / kind / f"{number}.png")

    found = []
    for side, count in ((32, 4), (300, 4), (300, 90)):  # the second time, only the content of the files changes
        write(side, count)
        found.append((photograph_defaults(str(tmp_path), "segment"), folder_defaults(str(tmp_path), "segment")))
    assert [dict(sizes) for sizes, _ in found] == [{}, {"size": "128x128"}, {"size": "128x128"}]
    assert [defaults["batch_size"] for _, defaults in found] == [4, 4, 8]
