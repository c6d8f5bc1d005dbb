"""Metrics of classification against counts by hand, loops, and scikit-learn if it is installed."""

import json

import numpy as np
import pytest
from command_line import numbacnn
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import numbacnn as nc
from numbacnn.metrics import Report, accuracy, confusion_matrix, per_class, top_k_accuracy


def drawn(rng, n=200, classes=7):
    """Labels and scores, with one class without images and one that is never predicted."""
    labels = rng.integers(0, classes - 1, n)
    scores = rng.standard_normal((n, classes)).astype(np.float32)
    scores[np.arange(n), labels] += 1
    scores[:, 2] = -9
    return labels, scores


def test_confusion_matrix_and_scores_of_two_classes_by_hand():
    labels, predictions = [0, 0, 0, 1, 1], [0, 1, 0, 1, 0]
    confusion = confusion_matrix(labels, predictions, 2)
    assert confusion.tolist() == [[2, 1], [1, 1]]
    found = per_class(confusion)
    assert found.precision.tolist() == [2 / 3, 1 / 2]
    assert found.recall.tolist() == [2 / 3, 1 / 2]
    assert found.f1.tolist() == [2 / 3, 1 / 2]
    assert found.support.tolist() == [3, 2]


def test_rows_of_the_confusion_matrix_are_the_true_classes():
    assert confusion_matrix([0, 0, 2], [1, 1, 0], 3).tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_classes_without_images_or_predictions_score_zero():
    found = per_class(confusion_matrix([0, 1], [0, 0], 3))
    assert found.precision.tolist() == [0.5, 0, 0]
    assert found.recall.tolist() == [1, 0, 0]
    assert found.f1.tolist() == [2 / 3, 0, 0]


def test_the_mean_omits_classes_neither_present_nor_predicted():
    scores = np.eye(3)[[0, 0]]
    assert Report.of([0, 1], scores, "abc").mean == (0.25, 0.5, 1 / 3)


def test_ties_go_to_the_first_class_as_in_argmax():
    scores = [[1.0, 1.0, 1.0]] * 3
    assert [top_k_accuracy([0, 1, 2], scores, k) for k in (1, 2, 3)] == [1 / 3, 2 / 3, 1]
    assert accuracy([0, 1, 2], scores) == 1 / 3


@given(arrays.arrays(np.float32, (9, 4), elements=st.integers(-3, 3)), st.integers(1, 4))
def test_top_k_is_the_head_of_the_sorted_scores(scores, k):
    labels = np.arange(9) % 4
    heads = [sorted(range(4), key=lambda i, row=row: (-row[i], i))[:k] for row in scores]
    assert top_k_accuracy(labels, scores, k) == np.mean([label in head for label, head in zip(labels, heads)])  # noqa: B905


def test_report_equals_loops(rng):
    labels, scores = drawn(rng)
    report = Report.of(labels, scores, "abcdefg", top_k=(1, 3))
    predicted = scores.argmax(axis=1)
    for c in range(7):
        for d in range(7):
            assert report.confusion[c, d] == sum(t == c and p == d for t, p in zip(labels, predicted, strict=True))
    assert report.accuracy == report.top_k[1] == np.mean(labels == predicted)
    worst = report.most_confused(4)
    assert [count for _, _, count in worst] == sorted((n for _, _, n in report.most_confused(49)), reverse=True)[:4]
    assert worst[0][2] == (report.confusion - np.diag(np.diag(report.confusion))).max()


def test_report_equals_scikit_learn(rng):
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    labels, scores = drawn(rng)
    report = Report.of(labels, scores, "abcdefg", top_k=(1, 2, 5))
    predicted = scores.argmax(axis=1)
    np.testing.assert_array_equal(report.confusion, sklearn.confusion_matrix(labels, predicted, labels=range(7)))
    theirs = sklearn.precision_recall_fscore_support(labels, predicted, labels=range(7), zero_division=0)
    for ours, other in zip(report.per_class, theirs, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-14)
    means = sklearn.precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    np.testing.assert_allclose(report.mean, means[:3], rtol=1e-14)
    for k, share in report.top_k.items():
        assert share == sklearn.top_k_accuracy_score(labels, scores, k=k, labels=range(7))


@pytest.mark.parametrize(
    ("fragment", "call"),
    [
        ("label 3 at index 1: classes go from 0 to 2", lambda: confusion_matrix([0, 3], [0, 1], 3)),
        ("prediction -1 at index 0", lambda: confusion_matrix([0], [-1], 3)),
        ("2 labels, but 1 predictions", lambda: confusion_matrix([0, 1], [1], 3)),
        ("labels are float64", lambda: confusion_matrix([0.5], [1], 3)),
        ("pass one integer for each image", lambda: accuracy([], np.empty((0, 3)))),
        ("k=4: there are scores for 3 classes", lambda: top_k_accuracy([0], np.eye(3)[:1], 4)),
        ("scores have shape (3,)", lambda: accuracy([0], np.zeros(3))),
        ("scores of 2 images", lambda: accuracy([0], np.zeros((2, 3)))),
        ("NaN", lambda: accuracy([0], [[np.nan, 1]])),
        ("2 class names, but scores for 3 classes", lambda: Report.of([0], np.eye(3)[:1], "ab")),
    ],
)
def test_invalid_input_is_an_error(fragment, call):
    with pytest.raises(nc.ArgumentError) as caught:
        call()
    assert fragment in str(caught.value)


# -- models and the command line --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of an untrained model for the bundled digits, which makes all kinds of mistakes."""
    made = nc.Sequential([nc.Conv2D(4, 5, stride=3), nc.ReLU(), nc.Flatten(), nc.Dense(10)], (28, 28, 1), seed=3)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    made.save(path)
    return path


def test_report_agrees_with_evaluate(model):
    network, (_, test) = nc.load(model), nc.data.load("digits")
    report = network.report(test, top_k=(1, 10))
    assert report.accuracy == report.top_k[1] == network.evaluate(test)["accuracy"]
    assert report.top_k[10] == 1
    predicted = network.predict(test.images).argmax(axis=1)
    np.testing.assert_array_equal(report.confusion, confusion_matrix(test.labels, predicted, 10))
    assert report.classes == tuple("0123456789")


def test_report_needs_a_classifier():
    pixels = nc.Sequential([nc.Conv2D(2, 1)], (4, 4, 1))
    with pytest.raises(nc.ArgumentError, match=r"a report is of a classifier; this model's output is \(4, 4, 2\)"):
        pixels.report((np.zeros((1, 4, 4, 1), np.float32), [0]))


def test_eval_report_in_json_is_complete(model):
    outcome = numbacnn("eval", model, "--data", "digits", "--report", "--top-k", 3, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    _, test = nc.data.load("digits")
    report = nc.load(model).report(test, top_k=[3])
    assert found["confusion_matrix"] == report.confusion.tolist()
    assert found["top_k"] == {"3": report.top_k[3]}
    for number, row in enumerate(found["classes"]):
        assert row == {
            "class": str(number),
            **{name: values[number] for name, values in report.per_class._asdict().items()},
        }
    assert found["mean"] == dict(zip(("precision", "recall", "f1"), report.mean, strict=True))
    assert found["accuracy"] == report.accuracy


def test_eval_report_as_text(model):
    outcome = numbacnn("eval", model, "--data", "digits", "--report", "--top-k", 10)
    lines = outcome.out.splitlines()
    assert lines[1] == "top-10 accuracy: 100.00 %"
    assert lines[3].split() == ["class", "precision", "recall", "F1", "images"]
    assert lines[14].startswith("mean of classes")
    assert lines[16].split() == ["true", "\\", "predicted", *"0123456789"]
    _, test = nc.data.load("digits")
    matrix = [list(map(int, line.split()[1:])) for line in lines[17:27]]
    assert matrix == nc.load(model).report(test).confusion.tolist()
    assert len(lines) == 27


def test_top_k_alone(model):
    outcome = numbacnn("eval", model, "--data", "digits", "--top-k", 2, "--json")
    found = json.loads(outcome.out)
    assert list(found["top_k"]) == ["2"]
    assert "confusion_matrix" not in found
    rejected = numbacnn("eval", model, "--data", "digits", "--top-k", 11)
    assert (rejected.code, rejected.err) == (1, "error: k=11: there are scores for 10 classes\n")


def test_report_of_many_classes_lists_their_mistakes(capsys):
    from numbacnn.cli.eval import print_report

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 30, 500)
    print_report(Report.of(labels, rng.standard_normal((500, 30)), [f"class {i}" for i in range(30)]))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 100
    assert lines[-21].split() == ["true", "predicted", "images"]
