"""Epochs count on from one call of fit to the next."""

import copy
import pickle

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.errors import ArgumentError


def data(count=30):
    draw = np.random.default_rng(0)
    return draw.integers(0, 255, (count, 8, 8, 1), np.uint8), np.arange(count) % 3


def net():
    layers = [nc.Conv2D(4, 3), nc.BatchNorm(), nc.ReLU(), nc.Flatten(), nc.Dropout(0.5), nc.Dense(3)]
    return nc.Sequential(layers, (8, 8, 1), seed=0)


def bits(model):
    return {name: array.tobytes() for name, array in (*model.parameters.items(), *model.state.items())}


def records(histories):
    return [(r.epoch, r.loss, r.accuracy, r.learning_rate) for history in histories for r in history.epochs]


OPTIONS = {"batch_size": 7, "augment": "rotate=20, noise=0.1", "accumulate": 2}


@pytest.mark.parametrize("optimizer", [lambda: None, lambda: "adam", lambda: nc.SGD(0.05, momentum=0.9)])
def test_three_calls_of_one_epoch_have_the_bits_of_one_call_of_three(optimizer):
    whole, parts = net(), net()
    expected = whole.fit(data(), epochs=3, optimizer=optimizer(), **OPTIONS)
    same = optimizer()
    found = [parts.fit(data(), epochs=1, optimizer=same, **OPTIONS) for _ in range(3)]
    assert records(found) == records([expected])
    assert bits(parts) == bits(whole)
    assert parts.epochs == whole.epochs == 3


def test_the_order_of_images_differs_from_call_to_call(monkeypatch):
    orders, order = [], nc.data.DataLoader.order
    monkeypatch.setattr(nc.data.DataLoader, "order", lambda self, epoch: orders.append(epoch) or order(self, epoch))
    model = net()
    for _ in range(3):
        model.fit(data(), epochs=2)
    assert orders == [0, 1, 2, 3, 4, 5]


def test_the_initial_epoch_continues_a_training_as_in_keras():
    whole, parts = net(), net()
    expected = whole.fit(data(), epochs=4, schedule="cosine", optimizer=nc.Adam(0.01))
    optimizer = nc.Adam(0.01)
    found = [
        parts.fit(data(), epochs=last, initial_epoch=first, schedule="cosine", optimizer=optimizer)
        for first, last in ((0, 1), (1, 4))
    ]
    assert records(found) == records([expected])
    assert bits(parts) == bits(whole)


def test_a_schedule_begins_again_in_each_call():
    model, rates = net(), []
    for _ in range(2):
        history = model.fit(data(), epochs=2, schedule="cosine", batch_size=15)
        rates.append([record.learning_rate for record in history.epochs])
    assert rates[0] == rates[1]


def test_events_and_records_count_on():
    model, events = net(), []
    model.fit(data(), epochs=2)
    history = model.fit(data(), epochs=1, callbacks=[events.append])
    assert [record.epoch for record in history.epochs] == [3]
    assert {(event.epoch, event.epochs) for event in events if isinstance(event, nc.StepEnd)} == {(3, 3)}


def test_a_training_that_a_callback_ends_within_an_epoch_goes_on_with_the_next():
    model = net()
    model.fit(
        data(), epochs=5, batch_size=10, callbacks=[lambda event: isinstance(event, nc.StepEnd) and event.epoch == 2]
    )
    assert model.epochs == 2
    assert model.fit(data(), epochs=1).epochs[0].epoch == 3


def test_a_checkpoint_knows_where_its_epochs_began(tmp_path):
    """The second training of a model is resumed in a model that has not seen the first."""
    file = tmp_path / "checkpoint.safetensors"
    whole = net()
    whole.fit(data(), epochs=2)
    parts = copy.deepcopy(whole)
    expected = whole.fit(data(), epochs=3, schedule="cosine", optimizer=nc.Adam(0.01))
    stop = [lambda event: isinstance(event, nc.EpochEnd)]
    parts.fit(data(), epochs=3, schedule="cosine", optimizer=nc.Adam(0.01), checkpoint=file, callbacks=stop)
    resumed = net()
    found = resumed.fit(data(), epochs=3, schedule="cosine", optimizer=nc.Adam(0.01), checkpoint=file, resume=True)
    assert records([found]) == records([expected])
    assert resumed.epochs == 5
    assert (
        len(
            resumed.fit(
                data(), epochs=3, schedule="cosine", optimizer=nc.Adam(0.01), checkpoint=file, resume=True
            ).epochs
        )
        == 3
    )  # it is done


def test_copies_keep_the_count_and_files_do_not(tmp_path):
    model = net()
    model.fit(data(), epochs=2)
    model.save(tmp_path / "model.safetensors")
    assert copy.deepcopy(model).epochs == pickle.loads(pickle.dumps(model)).epochs == 2
    assert nc.load(tmp_path / "model.safetensors").epochs == model.replace_head(4).epochs == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 3, "initial_epoch": 3}, "initial_epoch=3 of epochs=3: no epoch is left to train"),
        ({"initial_epoch": -1}, "initial_epoch=-1: pass a whole number of at least 0"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm'; did you mean 'adam'"),
        ({"optimizer": 3}, 'optimizer=3: pass a name such as "adam"'),
    ],
)
def test_invalid_arguments_are_errors(options, message):
    with pytest.raises(ArgumentError, match=message):
        net().fit(data(), **options)
