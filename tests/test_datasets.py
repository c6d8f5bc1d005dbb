"""Data sets: from arrays, from folders and by name, including downloads from a local server."""

import gzip
import hashlib
import http.server
import io
import os
import socketserver
import tarfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import numbacnn.data as data
from numbacnn.data import Dataset, NamedSet, load, load_folder, write_idx
from numbacnn.errors import ArgumentError, DataError

GRAY = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
LABELS = np.array([0, 1, 2, 1, 0])


class TestFromArrays:
    def test_forms(self):
        gray = Dataset.from_arrays(GRAY, LABELS.astype(np.uint8))
        assert gray.images.shape == (5, 3, 4, 1)
        assert gray.labels.dtype == np.int64
        assert gray.classes == ("0", "1", "2")
        assert len(gray) == 5
        assert Dataset.from_arrays(GRAY[..., np.newaxis].astype(np.float64), LABELS).images.dtype == np.float32
        assert Dataset.from_arrays(GRAY.T, [0] * 4, ["only"]).images.flags.c_contiguous

    @pytest.mark.parametrize(
        ("images", "labels", "error", "message"),
        [
            (GRAY[0, 0], LABELS, ArgumentError, r"shape \(4,\); pass \(N, H, W, C\)"),
            (GRAY.astype(np.int64), LABELS, ArgumentError, r"images are int64; .*astype\(np.uint8\)"),
            (GRAY[:0], LABELS[:0], DataError, "they are empty"),
            (GRAY, LABELS[:4], ArgumentError, "5 images but 4 labels"),
            (GRAY, LABELS / 2j, ArgumentError, "labels are complex128"),
            (GRAY, np.full((5, 5), 2), ArgumentError, r"int64 of shape \(5, 5\)"),
            (GRAY, LABELS - 1, DataError, "label -1 at index 0 .* with 2 classes"),
            (GRAY, LABELS + 10**9, DataError, "label 1000000000 at index 0"),
        ],
    )
    def test_invalid_arrays(self, images, labels, error, message):
        with pytest.raises(error, match=message):
            Dataset.from_arrays(images, labels)

    def test_label_beyond_the_named_classes(self):
        with pytest.raises(DataError, match=r"label 2 at index 2 .* with 2 classes labels go from 0 to 1"):
            Dataset.from_arrays(GRAY, LABELS, ["a", "b"])

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
    def test_values_that_are_not_finite(self, value):
        images = GRAY.astype(np.float64)
        images[2:4, 0, 0] = value
        with pytest.raises(DataError, match=r"2 of 5 images .* the first of them image 2;"):
            Dataset.from_arrays(images, LABELS)


class TestStatistics:
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_mean_and_std_agree_with_float64(self, dtype, monkeypatch):
        monkeypatch.setattr("numbacnn.data.dataset._CHUNK", 7)
        images = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 3)).astype(dtype)
        dataset = Dataset.from_arrays(images, np.zeros(9, dtype=int))
        unit = 255.0 if dtype == np.uint8 else 1.0
        np.testing.assert_array_equal(dataset.mean, np.float32((images / unit).mean((0, 1, 2), dtype=np.float64)))
        np.testing.assert_allclose(dataset.std, (images / unit).std((0, 1, 2), dtype=np.float64), rtol=1e-7)
        assert dataset.mean.dtype == dataset.std.dtype == np.float32
        assert dataset.mean is dataset.mean

    @pytest.mark.parametrize("value", [np.uint8(77), np.float32(0.1), np.float32(3e38)])
    def test_constant_channel_has_std_1(self, value):
        dataset = Dataset.from_arrays(np.full((3, 7, 7, 1), value), [0, 0, 0])
        assert dataset.std.tolist() == [1]

    def test_large_values_with_a_small_spread(self):
        images = np.tile(np.float32([1e6, 1e6 + 1]), (4, 3, 5))
        assert Dataset.from_arrays(images, [0] * 4).std.tolist() == [0.5]


class TestSplit:
    def test_split_is_stratified(self):
        labels = np.repeat([0, 1, 2], [50, 31, 19])
        whole = Dataset.from_arrays(np.arange(100, dtype=np.float32).reshape(100, 1, 1), labels, ["a", "b", "c"])
        rest, held_out = whole.split(0.2, seed=3)
        assert np.bincount(held_out.labels).tolist() == [10, 6, 4]
        assert rest.classes == held_out.classes == whole.classes
        assert sorted([*rest.images.flat, *held_out.images.flat]) == list(range(100))
        assert rest.mean != held_out.mean != whole.mean
        np.testing.assert_array_equal(held_out.images, whole.split(0.2, seed=3)[1].images)
        assert not np.array_equal(held_out.images, whole.split(0.2, seed=4)[1].images)

    @pytest.mark.parametrize("fraction", [0, 1, -0.5, float("nan"), 0.01])
    def test_invalid_fractions(self, fraction):
        with pytest.raises(ArgumentError, match="split: "):
            Dataset.from_arrays(GRAY, LABELS).split(fraction)

    def test_negative_seed(self):
        with pytest.raises(ArgumentError, match="seed -1"):
            Dataset.from_arrays(GRAY, LABELS).split(0.4, seed=-1)

    @pytest.mark.parametrize("indices", [[], [5], [-1], [0.5], [[1]], [True]])
    def test_subset_checks_its_indices(self, indices):
        with pytest.raises(ArgumentError, match="subset: "):
            Dataset.from_arrays(GRAY, LABELS).subset(indices)


def write_pair(folder, split, images=GRAY, labels=LABELS, suffix=".gz", style="-"):
    rank = np.ndim(images)
    write_idx(folder / f"{split}-images{style}idx{rank}-ubyte{suffix}", images)
    write_idx(folder / f"{split}-labels{style}idx1-ubyte{suffix}", np.asarray(labels, dtype=np.int32))


class TestIdxFolder:
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize("style", ["-", "."])
    @pytest.mark.parametrize("test_split", ["t10k", "test"])
    def test_both_splits(self, tmp_path, suffix, style, test_split):
        write_pair(tmp_path, "train", suffix=suffix, style=style)
        write_pair(tmp_path, test_split, GRAY[:2], [4, 3], suffix=suffix, style=style)
        train, test = load_folder(tmp_path)
        np.testing.assert_array_equal(train.images[..., 0], GRAY)
        assert test.labels.tolist() == [4, 3]
        assert train.classes == test.classes == ("0", "1", "2", "3", "4")

    def test_color_without_a_test_split(self, tmp_path):
        color = np.repeat(GRAY[..., np.newaxis], 3, axis=3)
        write_pair(tmp_path, "train", color)
        train, test = load_folder(tmp_path)
        np.testing.assert_array_equal(train.images, color)
        assert test is None

    @pytest.mark.parametrize(
        ("images", "labels", "message"),
        [
            (GRAY, LABELS[:3], "holds 5 images, but .*train-labels-idx1-ubyte.gz 3 labels"),
            (GRAY.astype(np.float32), LABELS, "holds 5×3×4 float32, not uint8"),
            (np.zeros((5, 3, 4, 2), np.uint8), LABELS, "holds 5×3×4×2 uint8"),
            (GRAY, LABELS - 1, "train-labels-idx1-ubyte.gz: label -1 at index 0"),
            (GRAY[:0], LABELS[:0], "they are empty"),
        ],
    )
    def test_invalid_files(self, tmp_path, images, labels, message):
        write_pair(tmp_path, "train", images, labels)
        with pytest.raises(DataError, match=message):
            load_folder(tmp_path)

    def test_invalid_labels(self, tmp_path):
        write_pair(tmp_path, "train")
        write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros((5, 1), np.float32))
        with pytest.raises(DataError, match="holds 5×1 float32; expected integers"):
            load_folder(tmp_path)

    def test_parts_of_different_size(self, tmp_path):
        write_pair(tmp_path, "train")
        write_pair(tmp_path, "t10k", GRAY[:, :2])
        with pytest.raises(DataError, match="training images are 3×4×1, t10k images 2×4×1"):
            load_folder(tmp_path)

    @pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
    def test_missing_file(self, tmp_path, kind):
        write_pair(tmp_path, "train")
        write_pair(tmp_path, "t10k")
        (tmp_path / f"train-{kind}-ubyte.gz").unlink()
        with pytest.raises(DataError, match=rf"train-{kind}-ubyte \(or .*\) is missing"):
            load_folder(tmp_path)


def paint(path, value=0, size=(4, 3), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


class TestImageFolder:
    def test_a_folder_per_class(self, tmp_path):
        paint(tmp_path / "b" / "1.png", 10)
        paint(tmp_path / "a" / "2.PNG", 20)
        paint(tmp_path / "a" / "1.jpg", 30)
        paint(tmp_path / ".cache" / "1.png")
        (tmp_path / "a" / "readme.txt").write_text("not an image")
        (tmp_path / "a" / ".1.png").write_text("not an image either")
        train, test = load_folder(tmp_path)
        assert train.images.shape == (3, 3, 4, 1)
        assert train.images[:, 0, 0, 0].tolist() == [30, 20, 10]
        assert train.labels.tolist() == [0, 0, 1]
        assert train.classes == ("a", "b")
        assert train.notes == ()
        assert test is None

    @pytest.mark.parametrize("test_split", ["test", "val"])
    def test_train_and_test_folders(self, tmp_path, test_split):
        paint(tmp_path / "train" / "a" / "1.png", 1)
        paint(tmp_path / "train" / "b" / "1.png", 2, size=(8, 6))
        paint(tmp_path / test_split / "b" / "1.png", (3, 3, 4), size=(2, 2), mode="RGB")
        train, test = load_folder(tmp_path)
        assert train.images.shape == (2, 3, 4, 3)
        assert train.notes == (
            f"{test_split}/ has no images of a",
            "1 of 2 images scaled to 3×4, the size of the first",
        )
        assert test.images[0, 0, 0].tolist() == [3, 3, 4]
        assert test.labels.tolist() == [1]
        assert test.classes == ("a", "b")
        assert test.notes == ("1 of 1 images scaled to 3×4, the size of the first",)

    def test_class_called_train(self, tmp_path):
        paint(tmp_path / "train" / "1.png")
        paint(tmp_path / "car" / "1.png")
        assert load_folder(tmp_path)[0].classes == ("car", "train")

    def test_class_only_in_the_test_set(self, tmp_path):
        paint(tmp_path / "train" / "a" / "1.png")
        paint(tmp_path / "test" / "z" / "1.png")
        with pytest.raises(DataError, match="z: no class 'z' among the training images"):
            load_folder(tmp_path)

    def test_damaged_image(self, tmp_path):
        paint(tmp_path / "a" / "1.png")
        paint(tmp_path / "b" / "1.png", 5)
        (tmp_path / "a" / "2.png").write_bytes(b"\x89PNG")
        (tmp_path / "b" / "2.png").write_bytes((tmp_path / "b" / "1.png").read_bytes()[:40])
        message = r"2 damaged files for 4 images: .*a/2\.png: not an image.*; .*b/2\.png: not"
        with pytest.raises(DataError, match=message):
            load_folder(tmp_path)
        paint(tmp_path / "a" / "3.png")
        train, _ = load(tmp_path, skip_damaged=True)
        assert "2 damaged files for 5 images, skipped: " in train.notes[0]

    def test_set_larger_than_memory(self, tmp_path, monkeypatch):
        paint(tmp_path / "a" / "1.png")
        paint(tmp_path / "b" / "1.png")

        def reject(*_, **__):
            raise MemoryError

        monkeypatch.setattr(np, "empty", reject)
        with pytest.raises(DataError, match="2 images of 3×4×1 do not fit in memory"):
            load_folder(tmp_path)

    def test_neither_layout(self, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").touch()
        for folder, message in [("empty", "no data set"), ("file", "not a folder"), ("absent", "no such folder")]:
            with pytest.raises(DataError, match=f"{message}.*; use CLASS/"):
                load_folder(tmp_path / folder)


class TestLoad:
    def test_digits(self):
        train, test = load("digits")
        assert (len(train), len(test)) == (1437, 360)
        assert train.images.shape[1:] == (28, 28, 1)
        assert train.images.dtype == np.uint8
        assert np.bincount(test.labels).tolist() == [36] * 10
        assert train.classes == tuple("0123456789")
        assert train.images.max() == 255
        assert not train.images[:, :4].any()
        assert not train.images[:, :, -4:].any()
        assert data.verify("digits") == [("digits.npz", "ok")]
        assert (data.download("digits") / "digits.npz").is_file()

    def test_folder_without_a_test_set_is_split(self, tmp_path):
        for name in ("a", "b"):
            for number in range(5):
                paint(tmp_path / name / f"{number}.png", size=(4 + number, 3))
        train, test = load(str(tmp_path))
        assert np.bincount(train.labels).tolist() == [4, 4]
        assert train.notes == ("8 of 10 images scaled to 3×4, the size of the first",)
        assert test.notes == (f"{tmp_path} has no test set; 2 of its 10 images were split off for it",)

    def test_folder_by_its_bare_name(self, tmp_path, monkeypatch):
        write_pair(tmp_path, "train")
        write_pair(tmp_path, "t10k")
        monkeypatch.chdir(tmp_path.parent)
        assert len(load(tmp_path.name)[0]) == len(load(tmp_path)[0]) == 5

    def test_unknown_names(self):
        with pytest.raises(ArgumentError, match=r"unknown data set 'mnits'; did you mean 'mnist'\? known: digits, "):
            load("mnits")
        with pytest.raises(ArgumentError, match=r"'zzz'; known: .*; or pass a folder"):
            data.verify("zzz")
        with pytest.raises(DataError, match="no such folder"):
            load("no/such/folder")

    def test_real_mnist(self, real_data):
        train, test = load(real_data / "mnist")
        assert train.images.shape == (60000, 28, 28, 1)
        assert test.images.shape == (10000, 28, 28, 1)
        np.testing.assert_allclose([*train.mean, *train.std], [0.13066, 0.30811], atol=1e-5)

    def test_real_color(self, real_data):
        train, test = load(real_data / "cifar10-subset")
        assert train.images.shape == (4000, 32, 32, 3)
        assert len(test.classes) == 10


@pytest.fixture
def real_data():
    if folder := os.environ.get("NUMBACNN_TEST_DATA"):
        return Path(folder)
    return pytest.skip("NUMBACNN_TEST_DATA does not name the folder with mnist/ and cifar10-subset/")


@contextmanager
def serving(files, sent=None):
    """Serve files from memory on 127.0.0.1 and yield the URL; ``sent`` truncates each below its Content-Length."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.get(self.path.removeprefix("/"))
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:sent])

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def endless(kind):
    """Serve a byte now and then ("drip"), "100 Continue" ("continue"), both forever, or a redirect to ftp."""
    answers = {
        "drip": [b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", *[b"x"] * 1000],
        "continue": [b"HTTP/1.1 100 Continue\r\n\r\n"] * 1000,
        "redirect": [b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"],
    }

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(4096)
            with suppress(OSError):
                for part in answers[kind]:
                    self.request.sendall(part)
                    time.sleep(0.02)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def cifar_archive(batches):
    """An archive in CIFAR-10's form, of (labels, images N×32×32×3) by name."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, (labels, images) in batches.items():
            planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
            records = np.concatenate([np.array(labels, np.uint8)[:, None], planes], axis=1).tobytes()
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(records)
            archive.addfile(entry, io.BytesIO(records))
    return content.getvalue()


class TestCifar:
    @pytest.fixture
    def batches(self):
        draw = np.random.default_rng(0)
        counts = {"data_batch_2.bin": 3, "data_batch_1.bin": 4, "test_batch.bin": 2}
        return {
            name: (draw.integers(0, 10, count), draw.integers(0, 256, (count, 32, 32, 3), np.uint8))
            for name, count in counts.items()
        }

    def test_batches_are_read_in_order(self, tmp_path, batches):
        (tmp_path / "cifar-10-binary.tar.gz").write_bytes(cifar_archive(batches))
        train, test = load(tmp_path)
        for split, names in ((train, ["data_batch_1.bin", "data_batch_2.bin"]), (test, ["test_batch.bin"])):
            np.testing.assert_array_equal(split.labels, np.concatenate([batches[name][0] for name in names]))
            np.testing.assert_array_equal(split.images, np.concatenate([batches[name][1] for name in names]))
        assert train.classes[:2] == ("airplane", "automobile")

    def test_the_named_set_is_that_archive(self):
        assert "cifar10" in data.NAMES
        assert data.verify("cifar10", cache="nowhere") == [("cifar-10-binary.tar.gz", "missing")]

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda archive, batches: archive[:2000], "damaged"),
            (lambda archive, batches: b"", "damaged"),
            (lambda archive, batches: cifar_archive(dict(list(batches.items())[:2])), "needs data_batch_1.bin"),
        ],
    )
    def test_damaged_archives(self, tmp_path, batches, damage, message):
        (tmp_path / "cifar-10-binary.tar.gz").write_bytes(damage(cifar_archive(batches), batches))
        with pytest.raises(DataError, match=message):
            load(tmp_path)


class TestDownload:
    @pytest.fixture(autouse=True)
    def _no_proxy(self, monkeypatch):
        monkeypatch.setenv("no_proxy", "127.0.0.1")

    @pytest.fixture
    def files(self, tmp_path):
        folder = tmp_path / "source"
        folder.mkdir()
        write_pair(folder, "train")
        write_pair(folder, "t10k")
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    @pytest.fixture
    def down(self):
        with serving({}) as url:
            pass
        return url

    @staticmethod
    def named(files, *mirrors):
        checksums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
        return NamedSet("tiny", checksums, mirrors, ("x", "y", "z"))

    @staticmethod
    def rejected(named, cache, message):
        """Check that the download fails with this message in one line that says what to do, and leaves no files."""
        with pytest.raises(DataError, match=message) as caught:
            load(named, cache=cache)
        assert "pass it: numbacnn train --data DIR or nc.data.load('DIR')" in str(caught.value)
        assert "t10k-labels-idx1-ubyte.gz" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not list((cache / "tiny").iterdir())

    def test_second_load_uses_the_cache(self, tmp_path, files):
        reports = []
        with serving(files) as url:
            named = self.named(files, url)
            train, test = load(named, cache=tmp_path, progress=lambda *report: reports.append(report))
        np.testing.assert_array_equal(train.images[..., 0], GRAY)
        assert train.classes == test.classes == ("x", "y", "z")
        assert reports == [(name, len(content), len(content)) for name, content in files.items()]
        assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == list(files)
        assert len(load(named, cache=tmp_path)[0]) == 5
        assert data.verify(named, cache=tmp_path) == [(name, "ok") for name in files]

    def test_damaged_and_missing_files_are_downloaded_again(self, tmp_path, files):
        names = list(files)
        with serving(files) as url:
            named = self.named(files, url)
            folder = data.download(named, cache=tmp_path)
            (folder / names[0]).write_bytes(gzip.compress(b"damaged"))
            (folder / names[1]).unlink()
            states = ["damaged", "missing", "ok", "ok"]
            assert data.verify(named, cache=tmp_path) == list(zip(names, states, strict=True))
            fetched = set()
            data.download(named, cache=tmp_path, progress=lambda name, *_: fetched.add(name))
        assert fetched == set(names[:2])
        assert all((folder / name).read_bytes() == content for name, content in files.items())

    def test_next_mirror_serves_if_one_fails(self, tmp_path, files, down):
        with serving(files, sent=10) as broken, serving({}) as empty, serving(files) as intact:
            named = self.named(files, down, broken, empty, intact)
            assert len(load(named, cache=tmp_path)[1]) == 5
        assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == list(files)

    def test_every_failure_is_reported(self, tmp_path, files, down):
        wrong = {name: content + b"!" for name, content in files.items()}
        with serving(files, sent=10) as broken, serving({}) as empty, serving(wrong) as changed:
            named = self.named(files, down, broken, empty, changed)
            message = (
                "Connection refused; .*: sent 10 of [0-9]+ bytes; .*: HTTP 404 Not Found; .*: md5 is .* instead of"
            )
            self.rejected(named, tmp_path, message)

    def test_endless_download_is_stopped(self, tmp_path, files, monkeypatch):
        monkeypatch.setattr("numbacnn.data.remote._MAX_BYTES", 20)
        with serving(files) as url:
            self.rejected(self.named(files, url), tmp_path, "sends more than")

    def test_interrupted_download_leaves_no_files(self, tmp_path, files):
        def interrupt(*_):
            raise KeyboardInterrupt

        with serving(files) as url, pytest.raises(KeyboardInterrupt):
            load(self.named(files, url), cache=tmp_path, progress=interrupt)
        assert not list((tmp_path / "tiny").iterdir())

    def test_what_is_read_is_what_was_verified(self, tmp_path, files):
        with serving(files) as url:
            named = self.named(files, url)
            load(named, cache=tmp_path)
        write_pair(tmp_path / "tiny", "train", GRAY[:3], LABELS[:3], suffix="")  # unpacked, next to the verified file
        assert len(load(named, cache=tmp_path)[0]) == 5

    def test_a_forged_md5_does_not_pass(self, tmp_path, files):
        name = next(iter(files))
        with serving(files) as url:
            named = replace(self.named(files, url), sha256={name: "0" * 64})
            self.rejected(named, tmp_path, f"{name} could not be downloaded .*: sha256 is .* instead of 0000")

    @pytest.mark.parametrize("kind", ["drip", "continue"])
    def test_a_mirror_that_never_ends_is_given_up(self, tmp_path, files, monkeypatch, kind):
        monkeypatch.setattr("numbacnn.data.remote._GRACE", 1.5)
        with endless(kind) as slow, serving(files) as url:
            start = time.monotonic()
            assert len(load(self.named(files, slow, url), cache=tmp_path)[0]) == 5
            assert time.monotonic() - start < 40  # four files
            self.rejected(self.named(files, slow), tmp_path / "other", "slower than 16 KiB/s")

    def test_redirects_lead_to_http_only(self, tmp_path, files):
        with endless("redirect") as url:
            self.rejected(self.named(files, url), tmp_path, "redirects from http to ftp")

    def test_stale_parts_of_downloads_are_removed(self, tmp_path, files):
        (tmp_path / "tiny").mkdir()
        stale, fresh = (tmp_path / "tiny" / f".{next(iter(files))}.{digits * 8}.part" for digits in "ab")
        for part in (stale, fresh):
            part.touch()
        os.utime(stale, (0, 0))
        with serving(files) as url:
            load(self.named(files, url), cache=tmp_path)
        assert not stale.exists()
        assert fresh.exists()  # perhaps of a download that runs now

    def test_cache_folder_cannot_be_created(self, tmp_path, files):
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match=r"cannot be created .*; choose another cache folder"):
            load(self.named(files), cache=tmp_path / "file")
