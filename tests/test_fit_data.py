"""The forms of data and labels that fit and evaluate take, and what fit shows."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.data import Dataset
from numbacnn.errors import ArgumentError

NAMES = ["ant", "bee", "cow"]
Y = np.arange(24) % 3
X = (np.random.default_rng(0).normal(60, 20, (24, 4, 4, 1)) + 60 * Y[:, None, None, None]).clip(0, 255).astype(np.uint8)


def net(outputs=3):
    return nc.Sequential([nc.Flatten(), nc.Dense(outputs)], (4, 4, 1), seed=0)


def bits(model):
    return [array.tobytes() for array in model.parameters.values()]


def fitted(*data, **options):
    model = net()
    model.fit(*data, epochs=2, **options)
    return bits(model), model.classes


@pytest.mark.parametrize(
    "labels",
    [
        Y.tolist(),
        Y[:, None],
        Y.astype(np.uint8),
        np.eye(3, dtype=int)[Y],
        np.eye(3, dtype=np.float32)[Y],
        np.eye(3, dtype=bool)[Y],
        list(Y),
    ],
    ids=["list", "column", "uint8", "one-hot", "one-hot floats", "one-hot booleans", "scalars"],
)
def test_forms_of_labels_give_the_same_training(labels):
    assert fitted(X, labels) == fitted((X, Y))


@pytest.mark.parametrize(
    "kind", [list, np.array, lambda names: np.array(names, object), lambda names: np.array(names)[:, None]]
)
def test_text_is_the_name_of_a_class(kind):
    words = kind([NAMES[number] for number in Y])
    assert fitted(X, words) == fitted(Dataset.from_arrays(X, Y, NAMES))
    assert (Dataset.from_arrays(X, words, ["cow", "bee", "ant"]).labels == 2 - Y).all()  # in the order of the names
    with pytest.raises(ArgumentError, match="unknown class 'cow'"):
        Dataset.from_arrays(X, words, ["ant", "bee"])


def test_labels_of_an_evaluation_are_those_of_the_models_classes():
    model = net()
    model.fit(X, [NAMES[number] for number in Y], epochs=20)
    some = Y > 0  # "bee" and "cow" only
    assert model.evaluate(X[some], [NAMES[number] for number in Y[some]]) == model.evaluate(X[some], Y[some])


def test_booleans_are_two_classes():
    data = Dataset.from_arrays(X, Y > 1)
    assert (data.labels == (Y > 1)).all()
    assert data.classes == ("0", "1")
    masks = Dataset.from_arrays(X, X > 100)
    assert masks.kind == "masks"
    assert (masks.labels == (X > 100)[..., 0]).all()


def test_features_are_rows():
    rows = X.reshape(24, 16) / np.float32(255)
    model = nc.Sequential([nc.Dense(8), nc.ReLU(), nc.Dense(3)], (16,), seed=0)
    model.fit(rows, Y, validation=(rows, Y), epochs=40, optimizer=nc.Adam(0.02))
    found = model.evaluate(rows, Y)
    assert found["accuracy"] > 0.9
    assert found["accuracy"] == (model.predict(rows).argmax(axis=1) == Y).mean()


def test_validation_is_a_fraction_a_pair_or_a_data_set():
    data = Dataset.from_arrays(X, Y)
    rest, held_out = data.split(0.25, seed=3)
    losses = [
        net().fit(train, validation=validation, seed=3, epochs=1).epochs[0].validation_loss
        for train, validation in ((data, 0.25), (rest, held_out), (rest, (held_out.images, held_out.labels)))
    ]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize("make", [lambda pairs: pairs, iter, lambda pairs: (pair for pair in pairs)])
def test_batches_are_collected(make):
    pairs = [(X[:10], Y[:10]), (X[10:], Y[10:])]
    assert fitted(make(pairs)) == fitted(X, Y)
    assert net().evaluate(make(pairs)) == net().evaluate(X, Y)


def in_one_buffer(images, labels):
    """Batches of one image each, all in the same arrays."""
    batch = images[:1].copy(), labels[:1].copy()
    for index in range(len(labels)):
        batch[0][:], batch[1][:] = images[index], labels[index]
        yield batch


def test_batches_may_share_their_buffers():
    assert fitted(in_one_buffer(X, Y)) == fitted(X, Y)
    assert fitted(nc.data.DataLoader((X, Y), 3, shuffle=False)) == fitted(X, Y)


def test_pytorchs_loaders_and_tensors():
    torch = pytest.importorskip("torch")
    x = X.astype(np.float32) / 255
    images = torch.tensor(x.transpose(0, 3, 1, 2))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, torch.tensor(Y)), batch_size=7)
    assert fitted(loader) == fitted(x, Y)
    tensors = torch.tensor(x, requires_grad=True), torch.tensor(Y)
    assert fitted(*tensors) == fitted(x, Y)
    assert (net().predict(tensors[0]) == net().predict(x)).all()
    assert (net().forward(tensors[0]) == net().forward(x)).all()


def test_the_loss_of_an_evaluation_may_follow_the_data():
    expected = net().evaluate(X, Y, loss="mse")
    assert net().evaluate((X, Y), "mse") == net().evaluate(Dataset.from_arrays(X, Y), "mse") == expected
    assert (
        net().evaluate(X, Y, "mse", [2])["loss"] == net().evaluate((X, Y), "mse", [2])["loss"] == 2 * expected["loss"]
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, 3), r"labels are int64 of shape \(\)"),
        (([X[0], X[1, :3]], [0, 1]), "images have 2 shapes, 4×4×1, 3×4×1 …"),
        (([(X, Y), X],), "batch 1 is ndarray; pass pairs"),
        ((iter(()),), "there are no batches"),
        (([(X, Y), (X[:, :3], Y)],), "batches do not fit together"),
        ((X, np.full((24, 3), 2)), r"labels are int64 of shape \(24, 3\)"),
        (("mnist",), "pass a Dataset, images and labels, or batches"),
    ],
)
def test_other_data_is_an_error_in_one_line(data, message):
    with pytest.raises(ArgumentError, match=message):
        net().fit(*data)


# -- the last batch ---------------------------------------------------------------------------------------------------


def normalized():
    return nc.Sequential([nc.Flatten(), nc.Dense(4), nc.BatchNorm(), nc.Dense(3)], (4, 4, 1), seed=0)


def test_a_last_batch_of_one_image_is_an_error_before_the_training():
    events = []
    with pytest.raises(
        ArgumentError, match=r'24 images in batches of 23: a batch has 1; BatchNorm "batch_norm_1".*drop_last=True'
    ):
        normalized().fit(X, Y, batch_size=23, callbacks=[events.append])
    assert not events
    model = normalized()
    model.freeze("batch_norm_1.*")  # runs as in inference
    model.fit(X, Y, batch_size=23, epochs=1)


def test_drop_last_omits_it():
    steps = []
    normalized().fit(X, Y, batch_size=23, epochs=2, drop_last=True, callbacks=[steps.append])
    assert [event.images for event in steps if isinstance(event, nc.StepEnd)] == [23, 23]


def test_batches_of_ignored_labels_do_not_count():
    loss = nc.losses.CrossEntropy(ignore_index=2)
    model = nc.Sequential([nc.Conv2D(3, 1)], (4, 4, 1), seed=0)
    masks = np.repeat(Y % 2, 16).reshape(24, 4, 4)
    counted = model.evaluate((X[:8], masks[:8]), loss)
    masks[8:] = 2
    some = model.evaluate(Dataset.from_arrays(X, masks, NAMES), loss)
    assert some == pytest.approx(counted)
    for call in (model.evaluate, model.fit):
        with pytest.raises(ArgumentError, match="each of the 256 labels is ignore_index=2: none is left to count"):
            call((X[8:], masks[8:]), loss=loss)


# -- progress ---------------------------------------------------------------------------------------------------------


class Terminal:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_at_once_and_a_line_for_each_epoch(monkeypatch):
    shown, terminal = [], Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    make = Dataset.of.__func__
    monkeypatch.setattr(Dataset, "of", classmethod(lambda *given: shown.append(terminal.text) or make(*given)))
    net().fit(X, Y, epochs=2, validation=0.25)
    assert "preparing the data" in shown[0]
    assert "epoch 1/2" in terminal.text
    assert "epoch 2/2: loss " in terminal.text
    assert "validation accuracy" in terminal.text
    terminal.text = ""
    net().fit(X, Y, epochs=2, progress=False)
    assert not terminal.text


def test_progress_off_a_terminal_is_shown_on_request(capsys):
    net().fit(X, Y, epochs=2)
    assert capsys.readouterr() == ("", "")
    net().fit(X, Y, epochs=2, progress=True)
    out, err = capsys.readouterr()
    assert not out
    lines = [line for line in err.splitlines() if line.startswith("epoch")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.parametrize("name", ["model.onnx", "model.h5", "model.PT", "model.keras", "model.pkl"])
def test_models_are_not_saved_under_the_name_of_another_format(name, tmp_path):
    with pytest.raises(ArgumentError, match="save writes safetensors; use a name that ends in"):
        net().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.bool_])
def test_rows_of_integers_are_features(dtype):
    rows, labels = np.random.default_rng(0).integers(0, 80, (60, 4)).astype(dtype), np.arange(60) % 3
    models = [nc.Sequential([nc.Dense(3)], (4,)) for _ in range(2)]
    for model, features in zip(models, (rows, rows.astype(np.float32)), strict=True):
        model.fit(features, labels, epochs=2)
    weights = [model.parameters["dense_1.weight"] for model in models]
    np.testing.assert_array_equal(*weights)
    np.testing.assert_array_equal(models[0].predict(rows), models[1].predict(rows.astype(np.float64)))
