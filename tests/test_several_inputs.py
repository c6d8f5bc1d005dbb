"""Models with several inputs in fit, evaluate and predict: tuples, mappings by name, batches, data sets, and files."""

import copy

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.data import Dataset
from numbacnn.errors import ArgumentError

RNG = np.random.default_rng(0)
Y = np.arange(30) % 3
PICTURES = (RNG.normal(60, 20, (30, 6, 6, 1)) + 40 * (Y > 0)[:, None, None, None]).clip(0, 255).astype(np.uint8)
ROWS = (RNG.normal(50, 3, (30, 4)) + 6 * (Y > 1)[:, None]).astype(np.float32)


def net(seed=0):
    picture, row = nc.Input((6, 6, 1), name="picture"), nc.Input((4,), name="row")
    joined = nc.Concat()([nc.Flatten()(nc.Conv2D(2, 3)(picture)), nc.Dense(8, activation="relu")(row)])
    return nc.Model([picture, row], nc.Dense(3)(joined), seed=seed)


def bits(model):
    return [array.tobytes() for array in model.parameters.values()]


def fitted(*data, **options):
    model = net()
    model.fit(*data, epochs=2, batch_size=7, **options)
    return model


@pytest.fixture(scope="module")
def trained():
    model = net()
    model.fit((PICTURES, ROWS), Y, epochs=60, batch_size=10, optimizer=nc.Adam(0.01))
    return model


def test_both_inputs_are_normalized_and_learned_from(trained):
    found = trained.evaluate((PICTURES, ROWS), Y)
    probabilities = trained.predict((PICTURES, ROWS))
    assert found["accuracy"] == (probabilities.argmax(axis=1) == Y).mean() > 0.9
    x = (PICTURES / 255 - PICTURES.mean() / 255) / (PICTURES / 255).std(), (ROWS - ROWS.mean(0)) / ROWS.std(0)
    logits = trained.forward([each.astype(np.float32) for each in x])
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
    for one, other in ((PICTURES[:1].repeat(30, 0), ROWS), (PICTURES, ROWS[:1].repeat(30, 0))):
        assert trained.evaluate((one, other), Y)["accuracy"] < 0.8  # without one of them classes are alike


def test_training_is_that_of_train_step():
    model, stepped = net(), net()
    data = Dataset.from_arrays(PICTURES, Y, others=[ROWS])
    model.fit(data, epochs=1, batch_size=10, optimizer=nc.SGD(0.1), seed=3)
    optimizer = nc.SGD(0.1)
    for batch in nc.data.DataLoader(data, 10, seed=3).epoch(0):
        parts = zip((batch.images / np.float32(255), batch.others[0].reshape(-1, 4)), (0, 1), strict=True)
        x = [
            ((part - np.array(of.mean)) / np.array(of.std)).astype(np.float32)
            for part, of in ((part, model.normalization.of_input(i)) for part, i in parts)
        ]
        stepped.train_step(x, batch.labels, optimizer)
    for name, array in stepped.parameters.items():
        np.testing.assert_allclose(model.parameters[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "data",
    [
        ([PICTURES, ROWS], Y),
        ({"row": ROWS, "picture": PICTURES}, Y),
        (((PICTURES, ROWS), Y),),
        (({"picture": PICTURES, "row": ROWS}, Y),),
        ([((PICTURES[:9], ROWS[:9]), Y[:9]), ((PICTURES[9:], ROWS[9:]), Y[9:])],),
        (({"row": ROWS[i : i + 10], "picture": PICTURES[i : i + 10]}, Y[i : i + 10]) for i in (0, 10, 20)),
        (Dataset.from_arrays(PICTURES, Y, others=[ROWS]),),
    ],
    ids=["list", "by name", "pair", "pair by name", "batches", "generator by name", "data set"],
)
def test_forms_of_the_inputs_give_the_same_training(data):
    data = data if isinstance(data, tuple) else (data,)
    assert bits(fitted(*data)) == bits(fitted((PICTURES, ROWS), Y))


def test_pytorchs_loader_of_several_tensors():
    torch = pytest.importorskip("torch")
    images = torch.tensor(PICTURES.transpose(0, 3, 1, 2) / np.float32(255))
    batches = [((images[:9], torch.tensor(ROWS[:9])), Y[:9]), ((images[9:], torch.tensor(ROWS[9:])), Y[9:])]
    assert bits(fitted(batches)) == bits(fitted((PICTURES / np.float32(255), ROWS), Y))


def test_evaluation_and_prediction_by_name(trained):
    named = {"row": ROWS, "picture": PICTURES}
    expected = trained.evaluate((PICTURES, ROWS), Y)
    assert trained.evaluate(named, Y) == trained.evaluate(((PICTURES, ROWS), Y)) == expected
    assert trained.evaluate(Dataset.from_arrays(PICTURES, Y, others=[ROWS])) == expected
    assert trained.evaluate((named, Y), "cross_entropy") == expected
    np.testing.assert_array_equal(trained.predict(named), trained.predict([PICTURES, ROWS]))
    assert trained.report((named, Y)).accuracy == expected["accuracy"]
    with_f1 = trained.evaluate(named, Y, metrics="f1")
    assert with_f1["f1"] == nc.metrics.f1(Y, trained.predict(named))


def test_validation_subsets_and_augmentation():
    data = Dataset.from_arrays(PICTURES, Y, others=[ROWS])
    rest, held_out = data.split(0.2)
    chosen = [np.flatnonzero((row == ROWS).all(axis=1))[0] for row in held_out.others[0][:, 0, 0]]
    np.testing.assert_array_equal(held_out.images, PICTURES[chosen])
    np.testing.assert_array_equal(held_out.labels, Y[chosen])
    one = net().fit(data, validation=0.2, epochs=1).epochs[0]
    other = net().fit(
        rest, validation=({"picture": held_out.images, "row": held_out.others[0]}, held_out.labels), epochs=1
    )
    assert one.validation_loss == other.epochs[0].validation_loss
    assert bits(fitted((PICTURES, ROWS), Y, augment="hflip")) != bits(fitted((PICTURES, ROWS), Y))


def test_files_copies_and_checkpoints_keep_both_normalizations(trained, tmp_path):
    trained.save(tmp_path / "m.safetensors")
    for again in (nc.load(tmp_path / "m.safetensors"), copy.deepcopy(trained)):
        assert again.normalization == trained.normalization
        np.testing.assert_array_equal(again.predict((PICTURES, ROWS)), trained.predict((PICTURES, ROWS)))
    options = {"checkpoint": tmp_path / "c.safetensors", "batch_size": 7, "epochs": 4}
    whole = net()
    whole.fit((PICTURES, ROWS), Y, epochs=4, batch_size=7)
    net().fit(
        (PICTURES, ROWS),
        Y,
        **options,
        callbacks=[lambda event: isinstance(event, nc.EpochEnd) and event.record.epoch == 2],
    )
    resumed = net(seed=1)
    resumed.fit((PICTURES, ROWS), Y, **options, resume=True)
    assert bits(resumed) == bits(whole)
    with pytest.raises(ArgumentError, match="belongs to a training with data checksum"):
        net().fit((PICTURES, ROWS + 1), Y, **options, resume=True)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"picture": PICTURES}, "there is no input 'row'; the model has picture, row"),
        ({"picture": PICTURES, "rows": ROWS}, "unknown input 'rows'; did you mean 'row'"),
        ((PICTURES,), "1 arrays for a model with 2 inputs; pass a tuple or a dict of picture, row"),
        (PICTURES, "ndarray for a model with 2 inputs"),
        ((PICTURES, ROWS[:-1]), "the inputs differ in length: 30 of picture, 29 of row"),
        ((ROWS, PICTURES), "images of shape .* for a model whose input is|shape"),
        ((PICTURES, ROWS[:, :3]), "shape"),
    ],
)
def test_inputs_that_do_not_fit_are_an_error_in_one_line(inputs, message):
    for work in (lambda: net().fit(inputs, Y), lambda: net().evaluate(inputs, Y), lambda: net().predict(inputs)):
        with pytest.raises(ArgumentError, match=message):
            work()


@pytest.mark.parametrize("labels", [(Y, Y), [Y, ROWS], {"one": Y, "two": Y}], ids=["tuple", "list", "by name"])
def test_labels_for_each_output_are_an_error_that_names_train_step(labels):
    x = nc.Input((4,))
    model = nc.Model(x, [nc.Dense(3, name="one")(x), nc.Dense(3, name="two")(x)])
    for work in (model.fit, model.evaluate):
        with pytest.raises(ArgumentError, match=r"give all outputs the same labels; .* train_step"):
            work(ROWS, labels)
    with pytest.raises(ArgumentError, match="labels are a dict; pass one array"):
        model.fit([(ROWS, {"one": Y, "two": Y})])


def test_data_sets_and_augmentations_that_do_not_fit():
    with pytest.raises(ArgumentError, match=r"the data has 1 inputs, and the model 2: picture, row; .* others="):
        net().fit(Dataset.from_arrays(PICTURES, Y))
    with pytest.raises(ArgumentError, match="30 images, but 29 of input 2"):
        Dataset.from_arrays(PICTURES, Y, others=[ROWS[:-1]])
    single = nc.Sequential([nc.Flatten(), nc.Dense(3)], (6, 6, 1))
    with pytest.raises(ArgumentError, match="the data has 2 inputs, and the model 1: input_1"):
        single.fit(Dataset.from_arrays(PICTURES, Y, others=[ROWS]))
    assert single.predict({"input_1": PICTURES}).tolist() == single.predict(PICTURES).tolist()
    with pytest.raises(ArgumentError, match="mixup and cutmix are for models with one input"):
        net().fit((PICTURES, ROWS), Y, augment="mixup")
    left, right = nc.Input((6, 6, 1)), nc.Input((6, 6, 1))
    pair = nc.Model([left, right], nc.Dense(3)(nc.Flatten()(left + right)))
    with pytest.raises(ArgumentError, match="augment: it changes one image"):
        pair.fit((PICTURES, PICTURES), Y, augment="hflip")
    with pytest.raises(ArgumentError, match="this is for models with one input"):
        net().activations(PICTURES)
