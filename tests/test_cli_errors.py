"""Bad input: one clear line, exit code 1 (2 for usage), nothing written."""

import gzip
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from command_line import finished, numbacnn, rejected
from numbacnn.cli import render
from PIL import Image
from safetensors.numpy import load_file, save_file

import numbacnn as nc
from numbacnn.data import write_idx
from numbacnn.engine.device import cuda_facts

IMAGES, LABELS = "d/train-images-idx3-ubyte", "d/train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def idx():
    """A valid folder of IDX files, for a test to damage."""
    Path("d").mkdir()
    write_idx(IMAGES, np.zeros((20, 28, 28), np.uint8))
    write_idx(LABELS, np.arange(20, dtype=np.uint8) % 10)


@pytest.fixture
def model():
    nc.models.lenet5().save("m.safetensors")
    Image.new("L", (28, 28)).save("a.png")


def idx_header(*shape, code=8):
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "0 bytes long, too short"),
        (idx_header(20, 28, 28) + bytes(100), "truncated"),
        (gzip.compress(idx_header(20, 28, 28) + bytes(20 * 784))[:-12], "damaged gzip"),
        (b"\x89PNG" + bytes(100), "not an IDX file"),
        (idx_header(1 << 31, 1 << 31, 1 << 31) + bytes(100), "impossible dimensions"),
        (idx_header(1 << 30, 28, 28) + bytes(100), "truncated or damaged"),
        (idx_header(19, 28, 28) + bytes(19 * 784), "holds 19 images"),
        (idx_header(20, 8, 8) + bytes(20 * 64), "exceeds the padded input"),
        (idx_header(20, 1, 1, code=13) + np.full(20, np.nan, ">f4").tobytes(), "float32"),
    ],
)
def test_damaged_images(idx, content, fragment):
    Path(IMAGES).write_bytes(content)
    rejected(fragment, "train", "--data", "d", "--out", "run")


def test_missing_file(idx):
    Path(LABELS).unlink()
    rejected("train-labels-idx1-ubyte (or train-labels-idx1-ubyte.gz) is missing", "train", "--data", "d")


def test_negative_labels(idx):
    write_idx(LABELS, np.full(20, -3, np.int8))
    rejected("label -3 at index 0 is not a class number", "train", "--data", "d")


def test_labels_outside_the_model(idx, model):
    write_idx(LABELS, np.arange(20, dtype=np.uint8))
    rejected("labels reach 19, but the model's last class is 9", "eval", "m.safetensors", "--data", "d")


def test_class_unknown_to_the_model(model):
    for name in ("cat", "dog"):
        Path("pets", name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (28, 28)).save(f"pets/{name}/{number}.png")
    rejected("the model has no class 'cat'", "eval", "m.safetensors", "--data", "pets")


def test_unknown_names_suggest_the_nearest():
    rejected("unknown data set 'digit'; did you mean 'digits'?", "train", "--data", "digit")
    rejected("unknown model 'lenet'; did you mean 'lenet5'?", "train", "--model", "lenet")
    rejected("unknown model 'lenet'; did you mean 'lenet5'?", "summary", "lenet")
    rejected("unknown data set 'mnits'; did you mean 'mnist'?", "data", "verify", "mnits")
    rejected("unknown data set 'mnits'; did you mean 'mnist'?", "data", "download", "mnits")


def test_folders_without_data():
    rejected("no such folder", "train", "--data", "./nowhere")
    Path("empty").mkdir()
    rejected("no data set in this folder", "train", "--data", "empty")


def test_unavailable_device():
    rejected('precision "tf32" is for tensor cores', "train", "--precision", "tf32", "--out", "run")
    if cuda_facts()["reason"]:
        rejected('device "cuda" cannot run: ', "train", "--device", "cuda", "--out", "run")


def test_files_that_are_not_models(model):
    rejected("no such file", "eval", "nowhere.safetensors", "--data", "digits")
    rejected("not a numbacnn file", "predict", "a.png", "a.png")
    Path("short.safetensors").write_bytes(Path("m.safetensors").read_bytes()[:5000])
    rejected("not a numbacnn file, or damaged", "predict", "short.safetensors", "a.png")
    save_file({"x": np.zeros(3)}, "foreign.safetensors")
    rejected("not a numbacnn file", "summary", "foreign.safetensors")
    Path("folder").mkdir()
    rejected("use a run's folder or a model file", "eval", "folder", "--data", "digits")


def resaved(path, metadata):
    save_file(load_file("m.safetensors"), path, metadata)


def test_model_of_a_newer_format(model):
    resaved("new.safetensors", {"format": "numbacnn", "version": "99", "head": "{}"})
    rejected("newer than this numbacnn reads", "predict", "new.safetensors", "a.png")
    head = {"graph": {"version": 99}}
    resaved("graph.safetensors", {"format": "numbacnn", "version": "1", "head": json.dumps(head)})
    rejected("upgrade numbacnn", "summary", "graph.safetensors")


def test_nan_weights(model):
    network = nc.load("m.safetensors")
    network.set_parameters({"dense_3.bias": np.full(10, np.nan, np.float32)})
    network.save("nan.safetensors")
    rejected("its weights are damaged", "predict", "nan.safetensors", "a.png")
    rejected("the weights are damaged", "eval", "nan.safetensors", "--data", "digits")


def test_unreadable_images(model):
    Path("text.png").write_text("no image")
    Path("cut.png").write_bytes(Path("a.png").read_bytes()[:40])
    rejected("nowhere.png: no such file", "predict", "m.safetensors", "nowhere.png")
    rejected("text.png: not an image", "predict", "m.safetensors", "text.png")
    rejected("cut.png: not", "predict", "m.safetensors", "cut.png")


def test_diverging_training():
    outcome = numbacnn("train", "--lr", 1e30, "--epochs", 2, "--out", "run", "-q")
    assert outcome.code == 1
    assert outcome.err.startswith(("error: the loss is ", "error: NaN or infinity in the weights "))
    assert outcome.err.count("\n") == 1


def test_configuration_files():
    for content, fragment in [
        ("batch_size = 3", "unknown key 'batch_size'; did you mean 'batch-size'?"),
        ("epochs = [1]", "epochs is a list; use a single value"),
        ("epochs = ", "not a TOML file"),
    ]:
        Path("c.toml").write_text(content)
        rejected(fragment, "train", "--config", "c.toml")
    rejected("nowhere.toml: cannot be read", "train", "--config", "nowhere.toml")
    Path("c.toml").write_text("epochs = 3.7")
    rejected("'3.7' is not a valid integer", "train", "--config", "c.toml", code=2)


def test_contradictory_options():
    rejected("adam has no momentum; leave it out", "train", "--optimizer", "adam", "--momentum", 0.5)
    rejected("sgd has no betas; leave it out", "train", "--betas", "0.7,0.9")
    rejected("betas='0.7;0.9': use numbers separated by commas", "train", "--optimizer", "adam", "--betas", "0.7;0.9")
    rejected("use two numbers", "train", "--optimizer", "adam", "--betas", "0.7")
    rejected("rmsprop has no nesterov; leave it out", "train", "--optimizer", "rmsprop", "--nesterov")
    rejected("plateau needs validation data", "train", "--schedule", "plateau", "--validation", 0)
    rejected("nesterov=True needs a momentum above 0", "train", "--momentum", 0, "--nesterov")
    rejected("--resume needs --out", "train", "--resume", code=2)
    rejected("leave out --config", "train", "--resume", "--out", "x", "--config", "y", code=2)


# -- where a value comes from -----------------------------------------------------------------------------------------


def test_a_bad_value_names_its_source(monkeypatch):
    rejected("Invalid value for --epochs: 'x' is not", "train", "--epochs", "x", code=2)
    rejected("error: --model: unknown model 'lenet'", "train", "--model", "lenet")
    rejected("error: --betas: betas='0.7;0.9'", "train", "--optimizer", "adam", "--betas", "0.7;0.9")
    rejected("error: --data: unknown data set 'mnits'", "train", "--data", "mnits")
    Path("c.toml").write_text("seed = 3\nepochs = 'x'")
    rejected("Invalid value for epochs (c.toml, line 2): 'x' is not", "train", "--config", "c.toml", code=2)
    Path("c.toml").write_text("seed = 3\n\nmodel = 'lenet'")
    rejected("error: model (c.toml, line 3): unknown model 'lenet'", "train", "--config", "c.toml")
    Path("c.toml").write_text("seed = 3\nepohcs = 3")
    rejected("error: c.toml, line 2: unknown key 'epohcs'; did you mean 'epochs'", "train", "--config", "c.toml")
    monkeypatch.setenv("NUMBACNN_TRAIN_EPOCHS", "x")
    rejected("Invalid value for NUMBACNN_TRAIN_EPOCHS: 'x' is not", "train", code=2)
    monkeypatch.setenv("NUMBACNN_TRAIN_EPOCHS", "1")
    monkeypatch.setenv("NUMBACNN_TRAIN_MODEL", "lenet")
    rejected("error: NUMBACNN_TRAIN_MODEL: unknown model 'lenet'", "train")


@pytest.mark.parametrize(
    ("variable", "fragment"),
    [
        ("NUMBACNN_TRAIN_EPOHCS", "NUMBACNN_TRAIN_EPOHCS sets nothing; did you mean 'NUMBACNN_TRAIN_EPOCHS'?"),
        ("NUMBACNN_TRAIN_XYZZY", "NUMBACNN_TRAIN_XYZZY sets nothing"),
    ],
)
def test_a_variable_that_sets_nothing_is_named(monkeypatch, variable, fragment):
    monkeypatch.setenv(variable, "3")
    rejected(fragment, "train", code=2)


@pytest.mark.parametrize(
    ("variable", "ours"),
    [
        ("NUMBACNN_CACHE_DRI", "NUMBACNN_CACHE_DIR"),
        ("NUMBACNN_SUMARY_CLASSES", "NUMBACNN_SUMMARY_CLASSES"),
        ("NUMBACNN_CLASSES", "NUMBACNN_SUMMARY_CLASSES"),
    ],
)
def test_a_variable_that_resembles_one_is_noted(monkeypatch, variable, ours):
    monkeypatch.setenv(variable, "3")
    outcome = numbacnn("summary", "lenet5")
    assert outcome.code == 0
    assert f"note: environment variable {variable} sets nothing; did you mean '{ours}'?\n" in outcome.err


def test_variables_of_other_projects_and_of_other_commands_are_left_alone(monkeypatch):
    monkeypatch.setenv("NUMBACNN_TRAIN_EPOCHS", "3")
    monkeypatch.setenv("NUMBACNN_SERVER_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("NUMBACNN_TRAIN_EPOHCS", "3")
    monkeypatch.setenv("NUMBACNN_DATA_PREVIEW_ROWS", "3")
    monkeypatch.setenv("NUMBACNN_TEST_DATA", "folder")
    outcome = numbacnn("data", "list")
    assert (outcome.code, outcome.err) == (0, "")


# -- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (["train", "--epohcs", "3"], 2, "--epochs"),
        (["train", "--data", "mnits"], 1, "did you mean 'mnist'"),
        (["eval", "nowhere.safetensors"], 1, "no such file"),
        (["summary", "lenet"], 1, "did you mean 'lenet5'"),
    ],
)
def test_a_failure_is_json_too(arguments, code, fragment):
    outcome = numbacnn(*arguments, "--json")
    printed = json.loads(outcome.out)
    assert outcome.code == printed["exit_code"] == code
    assert fragment in printed["error"]
    assert outcome.err.startswith("error: ")


def no_constants(name):
    raise ValueError(f"{name} is not JSON")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_json_is_valid_on_every_stream(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace", newline="")
    monkeypatch.setattr("sys.stdout", stream)
    numbers = [float("nan"), float("inf"), np.float32(0.5), np.int64(3)]
    render.as_json({"a": numbers, "b×": "\udcff Größe", 3: np.ones(2)})
    stream.flush()
    found = json.loads(stream.buffer.getvalue().decode(encoding), parse_constant=no_constants)
    assert found == {"a": [None, None, 0.5, 3], "b×": "\udcff Größe", "3": [1, 1]}


# -- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["train", "--epoch", "3"], "--epochs"),
        (["train", "--epochs", "0"], "range"),
        (["train", "--epochs", "three"], "not a valid integer"),
        (["train", "--optimizer", "sdg"], "sgd"),
        (["train", "--validation", "1"], "range"),
        (["trian"], "No such command 'trian'"),
        (["data"], "Missing command"),
        (["predict", "m.safetensors"], "Missing argument"),
        (["eval"], "Missing argument"),
    ],
)
def test_usage(arguments, fragment):
    rejected(fragment, *arguments, code=2)


def test_model_without_a_run_needs_data(model):
    rejected("add --data", "eval", "m.safetensors", code=2)


def test_debug_shows_the_traceback():
    outcome = finished("train", "--data", "digit", "--debug")
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert "Traceback" not in finished("train", "--data", "digit").err
