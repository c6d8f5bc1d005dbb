"""Schedules: their factors, positions in updates and in fractions, and their errors. tests/peers compares PyTorch."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_training import bright_quadrants, sgd, small

import numbacnn as nc
from numbacnn.errors import ArgumentError
from numbacnn.schedules import SCHEDULES, Fixed, OneCycle, Plateau, Step, Warmup, after, cosine, get_schedule, watches

ALL = [
    *SCHEDULES.values(),
    Step(every=0.3, gamma=0.5),
    Warmup(cosine, 0.2),
    Warmup(Warmup(OneCycle(), 3), 0.5),
    Fixed(0.3),
]


def factors(schedule, steps):
    return [schedule(step, steps) for step in range(steps)]


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@given(steps=st.integers(1, 500))
def test_factors_are_from_0_to_1_in_trainings_of_any_length(schedule, steps):
    assert all(0 <= factor <= 1 for factor in factors(schedule, steps))


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_schedules_can_be_pickled(schedule):
    assert factors(pickle.loads(pickle.dumps(schedule)), 20) == factors(schedule, 20)


def test_step_takes_milestones_as_fractions_and_as_updates():
    expected = [1.0] * 5 + [0.1] * 3 + [0.1**2] * 2
    assert factors(Step((0.5, 0.75)), 10) == pytest.approx(expected)
    assert factors(Step((5, 8)), 10) == pytest.approx(expected)
    assert factors(Step(every=4, gamma=0.5), 10) == [1.0] * 4 + [0.5] * 4 + [0.25] * 2
    assert factors(Step(every=0.4, gamma=0.5), 10) == factors(Step(every=4, gamma=0.5), 10)


def test_warmup_is_linear_and_then_follows_its_schedule():
    found = factors(Warmup(cosine, 4, start=0.2), 14)
    np.testing.assert_allclose(found[:4], [0.2, 0.4, 0.6, 0.8])
    assert found[4:] == factors(cosine, 10)
    assert factors(Warmup(cosine, 0.25, start=0.2), 16)[:4] == found[:4]
    assert factors(Warmup(cosine, 0), 10) == factors(cosine, 10)
    np.testing.assert_allclose(factors(Warmup(length=100), 3), [0.01, 0.34, 0.67])  # no longer than the training


def test_one_cycle_rises_to_the_learning_rate_and_ends_far_below_its_start():
    found = factors(OneCycle(pct_start=0.3, div_factor=10, final_div_factor=100), 100)
    assert found[0] == pytest.approx(0.1)
    assert max(found) == found[29] == 1.0
    assert found[-1] == pytest.approx(0.001)
    assert np.diff(found[:30]).min() > 0 > np.diff(found[29:]).max()


def test_plateau_depends_on_the_validation_losses_alone():
    plateau = Plateau(factor=0.5, patience=1)
    losses = [1.0, 0.9, 0.95, 0.93, 0.8, 0.81, 0.82, 0.83, 0.84]
    found = [after(plateau, losses[:n])(0, 10) for n in range(len(losses) + 1)]
    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert after(Plateau(factor=0.5, patience=0, min_lr=0.03), [1.0] * 9, 0.1)(0, 10) == 0.3
    assert after(Warmup(plateau, 2), losses)(5, 10) == 0.125
    assert after(Warmup(plateau, 2, start=0.5), losses)(0, 10) == 0.5


def test_only_plateau_watches_the_validation_loss():
    assert [watches(schedule) for schedule in ALL] == [schedule == Plateau() for schedule in ALL]
    assert watches(Warmup(Warmup(Plateau())))


def test_fit_lowers_the_learning_rate_on_a_plateau():
    data, held_out = bright_quadrants(40), bright_quadrants(40, seed=1)
    history = small().fit(
        data, validation=held_out, optimizer=nc.SGD(1e-9), epochs=6, schedule=Plateau(factor=0.5, patience=1)
    )
    assert [record.learning_rate / 1e-9 for record in history.epochs] == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25])


def test_fit_takes_a_schedule_by_name():
    history = small().fit(bright_quadrants(32), optimizer=sgd(), epochs=4, batch_size=16, schedule="step")
    assert [record.learning_rate for record in history.epochs] == pytest.approx([0.05, 0.05, 0.005, 0.0005])
    assert get_schedule(None)(3, 5) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: get_schedule("cosin"), "unknown schedule 'cosin'; did you mean 'cosine'"),
        (lambda: get_schedule(0.1), "schedule=0.1: pass a name of numbacnn.schedules, or a function"),
        (lambda: get_schedule(Plateau), "schedule=<class.*pass a name"),
        (lambda: Step(gamma=-0.1), "gamma=-0.1: pass a number of at least 0 and at most 1"),
        (lambda: Step((0.5, 1.5)), "milestones=1.5: use an integer number of updates, or a fraction"),
        (lambda: Step(every=0), "every=0"),
        (lambda: OneCycle(pct_start=2), "pct_start=2"),
        (lambda: OneCycle(div_factor=0.5), "div_factor=0.5: pass a number of at least 1"),
        (lambda: Warmup(length=-1), "length=-1"),
        (lambda: Warmup(start=2), "start=2"),
        (lambda: Plateau(factor=float("nan")), "factor=nan"),
        (lambda: Plateau(patience=-1), "patience=-1"),
        (
            lambda: small().fit(bright_quadrants(8), schedule="plateau"),
            "Plateau.*watches the validation loss; pass val",
        ),
        (lambda: small().fit(bright_quadrants(8), schedule=Warmup(Plateau())), "watches the validation loss"),
    ],
)
def test_an_invalid_argument_is_an_error_that_names_it(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
