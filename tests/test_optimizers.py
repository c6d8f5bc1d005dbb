"""Optimizers: twenty steps against the oracle, groups, clipping, copies, and rejected arguments."""

import copy
import pickle

import numpy as np
import pytest
from engine import assert_close
from rules import RULES

import numbacnn as nc
from numbacnn.errors import ArgumentError

STEPS = 20
CASES = [(rule.kind, rule.step, rule.learning_rate, options) for rule in RULES for options in rule.options]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind.__name__)
every_optimizer = pytest.mark.parametrize("make", [rule.make for rule in RULES], ids=[r.kind.__name__ for r in RULES])


def small_model(seed=0):
    """Parameters of 5,600, 70, 210 and 3 numbers: more than one block of an update, and gaps between them."""
    return nc.Sequential([nc.Dense(70), nc.Tanh(), nc.Dense(3)], (80,), seed=seed)


def fill_gradients(model, rng):
    """Gradients of a random batch."""
    model.forward(rng.standard_normal((4, 80)), training=True)
    model.backward(rng.standard_normal((4, 3)))


@pytest.mark.parametrize(
    ("kind", "oracle", "rate", "options"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_twenty_steps_follow_the_oracle(kind, oracle, rate, options, rng):
    model, optimizer = small_model(), kind(learning_rate=rate, **options)
    weights = {name: array.astype(np.float64) for name, array in model.parameters.items()}
    states = dict.fromkeys(weights)
    start = {name: array.copy() for name, array in weights.items()}
    for step in range(STEPS):
        fill_gradients(model, rng)
        scale = 0.5 if step >= STEPS // 2 else 1.0
        optimizer.step(model, scale)
        for name, gradient in model.gradients.items():
            weights[name], states[name] = oracle(
                weights[name], gradient.astype(np.float64), states[name], rate * scale, **options
            )
    assert optimizer.steps == STEPS
    for name, array in model.parameters.items():
        moved = array.astype(np.float64) - start[name]
        assert_close(moved.astype(np.float32), weights[name] - start[name], f"{kind.__name__} {options}: {name}")


def test_a_step_leaves_gradients_alone_and_reaches_the_next_forward(rng):
    model = small_model()
    fill_gradients(model, rng)
    before = {name: array.copy() for name, array in model.gradients.items()}
    x = rng.standard_normal((2, 80))
    y = model.forward(x)
    nc.SGD(0.1).step(model)
    for name, array in model.gradients.items():
        np.testing.assert_array_equal(array, before[name])
    assert np.abs(model.forward(x) - y).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nc.SGD(-0.1), "learning_rate=-0.1: pass a number of at least 0"),
        (lambda: nc.SGD(float("nan")), "learning_rate=nan"),
        (lambda: nc.SGD(float("inf")), "learning_rate=inf"),
        (lambda: nc.SGD(0.1, momentum=1.0), "momentum=1.0: pass a number of at least 0 and below 1"),
        (lambda: nc.SGD(0.1, momentum=-0.5), "momentum=-0.5"),
        (lambda: nc.SGD(0.1, nesterov=True), "nesterov=True needs a momentum above 0"),
        (lambda: nc.SGD(0.1, weight_decay=-1), "weight_decay=-1"),
        (lambda: nc.Adam(0.1, betas=(0.9, 1.0)), "betas=1"),
        (lambda: nc.Adam(0.1, eps=-1e-8), "eps=-1e-08"),
        (lambda: nc.RMSprop(0.1, alpha=1.0), "alpha=1"),
        (lambda: nc.Adagrad(0.1, initial_accumulator=-1), "initial_accumulator=-1"),
        (lambda: nc.Muon(0.1, iterations=0), "iterations=0"),
        (lambda: nc.Muon(0.1, others=nc.SGD(0.1)), "others: pass an AdamW without groups and clipping"),
        (lambda: nc.Muon(0.1, others=nc.AdamW(clip_norm=1)), "others: pass an AdamW without groups and clipping"),
        (lambda: nc.SGD(0.1, clip_norm=-1), "clip_norm=-1"),
        (lambda: nc.SGD(0.1, clip_value=float("nan")), "clip_value=nan"),
        (
            lambda: nc.SGD(0.1, groups=[nc.ParamGroup("*", momentun=0.9)]),
            "unknown option.*'momentun'; did you mean 'momentum'",
        ),
        (lambda: nc.SGD(0.1, groups=[nc.ParamGroup("*", clip_norm=1)]), "unknown option.*'clip_norm'"),
        (lambda: nc.SGD(0.1, groups=[nc.ParamGroup("*", learning_rate=-1)]), "learning_rate=-1"),
    ],
)
def test_numbers_out_of_range_are_rejected_by_name(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@every_optimizer
def test_one_optimizer_serves_one_model(make, rng):
    model, other, optimizer = small_model(), small_model(1), make()
    fill_gradients(model, rng)
    optimizer.step(model)
    fill_gradients(other, rng)
    kept = {name: array.copy() for name, array in other.parameters.items()}
    with pytest.raises(ArgumentError, match="already serves another model; make one for each"):
        optimizer.step(other)
    for name, array in other.parameters.items():
        np.testing.assert_array_equal(array, kept[name])


# -- any shape --------------------------------------------------------------------------------------------------------


def odd_model():
    """Convolutions wide, tall and grouped, of one filter and of 17, normalization, and a dense layer of one unit."""
    layers = [
        nc.Conv2D(17, 3), nc.BatchNorm(), nc.ReLU(), nc.Conv2D(34, 1, groups=17), nc.PReLU(), nc.Conv2D(1, 2),
        nc.Flatten(), nc.Dense(40), nc.Dense(1),
    ]  # fmt: skip
    return nc.Sequential(layers, (7, 6, 3), seed=2)


@every_rule
def test_arrays_of_any_shape_follow_the_oracle(rule, rng):
    model, optimizer = odd_model(), rule.make()
    weights = {name: array.astype(np.float64) for name, array in model.parameters.items()}
    start, states = {name: array.copy() for name, array in weights.items()}, dict.fromkeys(weights)
    for _ in range(3):
        model.backward(rng.standard_normal(model.forward(rng.standard_normal((3, 7, 6, 3)), training=True).shape))
        optimizer.step(model)
        for name, gradient in model.gradients.items():
            weights[name], states[name] = rule.step(
                weights[name], np.float64(gradient), states[name], optimizer.learning_rate, **rule.usual
            )
    for name, array in model.parameters.items():
        moved = (array - start[name]).astype(np.float32)
        assert_close(moved, weights[name] - start[name], f"{optimizer.name}: {name}", rule.tolerance)


# -- groups -----------------------------------------------------------------------------------------------------------


def stepped(optimizer, steps=3, model=None):
    model, rng = model or small_model(), np.random.default_rng(5)
    for _ in range(steps):
        fill_gradients(model, rng)
        optimizer.step(model)
    return {name: array.copy() for name, array in model.parameters.items()}


@every_optimizer
def test_a_group_moves_as_an_optimizer_with_its_options_would(make):
    """Gradients do not depend on the weights' order of updates only in the first step: so one step, from each."""
    base, slow = make(), make()
    slow.learning_rate /= 7
    grouped = make()
    grouped.groups = [nc.ParamGroup("dense_2.*", learning_rate=grouped.learning_rate / 7)]
    expected, slowly = stepped(base, 1), stepped(slow, 1)
    for name, array in stepped(grouped, 1).items():
        if grouped.name == "muon" and name == "dense_2.bias":
            continue  # its rate is that of ``others``
        np.testing.assert_array_equal(array, (slowly if name.startswith("dense_2") else expected)[name], name)


def test_the_first_group_that_matches_counts():
    groups = [nc.ParamGroup("*.bias", learning_rate=0), nc.ParamGroup("dense_1.*", learning_rate=0.3)]
    moved, start = stepped(nc.SGD(0.1, groups=groups), 1), small_model().parameters
    alone = {rate: stepped(nc.SGD(rate), 1) for rate in (0.0, 0.1, 0.3)}
    for name, rate in {"dense_1.weight": 0.3, "dense_1.bias": 0.0, "dense_2.weight": 0.1, "dense_2.bias": 0.0}.items():
        np.testing.assert_array_equal(moved[name], alone[rate][name], name)
    np.testing.assert_array_equal(moved["dense_1.bias"], start["dense_1.bias"])


def test_groups_may_have_any_option_of_their_own():
    group = nc.ParamGroup("dense_2.*", momentum=0.0, weight_decay=0.5)
    found = stepped(nc.SGD(0.1, momentum=0.9, groups=[group]), 1)
    np.testing.assert_array_equal(found["dense_2.weight"], stepped(nc.SGD(0.1, weight_decay=0.5), 1)["dense_2.weight"])
    group = nc.ParamGroup("dense_2.*", orthogonalize=False)
    found = stepped(nc.Muon(0.1, groups=[group]), 1)
    np.testing.assert_array_equal(found["dense_2.weight"], stepped(nc.AdamW(0.001), 1)["dense_2.weight"])
    groups = [nc.ParamGroup("dense_1.weight", initial_accumulator=3.0), nc.ParamGroup("dense_2.weight", centered=True)]
    found = stepped(nc.Adagrad(0.1, groups=groups[:1]), 2)
    np.testing.assert_array_equal(found["dense_2.bias"].shape, (3,))
    one = stepped(nc.Adagrad(0.1, groups=groups[:1]), 1)
    np.testing.assert_array_equal(
        one["dense_1.weight"], stepped(nc.Adagrad(0.1, initial_accumulator=3), 1)["dense_1.weight"]
    )
    one = stepped(nc.RMSprop(0.1, groups=groups[1:]), 1)
    np.testing.assert_array_equal(one["dense_2.weight"], stepped(nc.RMSprop(0.1, centered=True), 1)["dense_2.weight"])


def test_a_learning_rate_set_between_steps_reaches_groups_that_have_none_of_their_own():
    optimizer = nc.SGD(0.1, groups=[nc.ParamGroup("*.bias", momentum=0.5)])
    optimizer.learning_rate = 0.3
    np.testing.assert_array_equal(stepped(optimizer, 1)["dense_2.bias"], stepped(nc.SGD(0.3), 1)["dense_2.bias"])


def test_a_group_that_matches_nothing_is_rejected_with_near_names(rng):
    model = small_model()
    fill_gradients(model, rng)
    optimizer = nc.SGD(0.1, groups=[nc.ParamGroup("dens_1.*", learning_rate=0.1)])
    with pytest.raises(ArgumentError, match=r"pattern 'dens_1\.\*' matches no parameter; there are .*dense_1\.weight"):
        optimizer.step(model)


# -- clipping ---------------------------------------------------------------------------------------------------------


def norm_of(model):
    return np.sqrt(sum((np.float64(gradient) ** 2).sum() for gradient in model.gradients.values()))


@pytest.mark.parametrize("share", [0.01, 0.9, 1.5])
def test_gradients_are_clipped_to_the_norm_of_all_of_them(share, rng):
    model = small_model()
    fill_gradients(model, rng)
    before, norm = {name: np.float64(array) for name, array in model.gradients.items()}, norm_of(model)
    nc.SGD(0.1, clip_norm=share * norm).step(model)
    assert norm_of(model) == pytest.approx(min(share, 1.0) * norm, rel=1e-6)
    for name, gradient in model.gradients.items():
        assert_close(gradient, before[name] * min(share, 1.0), name)


def test_clipping_by_a_norm_that_is_nan_hides_nothing():
    """Every gradient becomes NaN, so that the update shows it."""
    model = nc.Sequential([nc.Dense(2), nc.Dense(2)], (3,))
    model.forward(np.ones((1, 3), np.float32), training=True)
    model.backward(np.array([[np.nan, 1]], np.float32))
    assert not np.isnan(model.gradients["dense_2.weight"][:, 1]).any()
    nc.SGD(0.1, clip_norm=1.0).step(model)
    assert all(np.isnan(array).all() for array in model.parameters.values())


def test_gradients_are_clipped_by_value_before_their_norm_is_taken(rng):
    model = small_model()
    fill_gradients(model, rng)
    before = {name: array.copy() for name, array in model.gradients.items()}
    nc.SGD(0.1, clip_value=0.5).step(model)
    for name, gradient in model.gradients.items():
        np.testing.assert_array_equal(gradient, before[name].clip(-0.5, 0.5))
    assert any(np.abs(array).max() > 0.5 for array in before.values())
    fill_gradients(model, rng)
    nc.SGD(0.1, clip_value=0.5, clip_norm=0.01).step(model)
    assert norm_of(model) == pytest.approx(0.01, rel=1e-6)


def test_clipping_keeps_nan_in_sight(rng):
    model = small_model()
    model.forward(rng.standard_normal((1, 80)), training=True)
    model.backward(np.full((1, 3), np.nan))
    nc.SGD(0.1, clip_value=0.5, clip_norm=0.01).step(model)
    assert np.isnan(model.parameters["dense_2.bias"]).all()


# -- subnormal numbers ------------------------------------------------------------------------------------------------


@every_optimizer
def test_moments_are_never_subnormal(make):
    optimizer, model = make(), small_model()
    optimizer.attach(model)
    model.store.values[:] = model.store.gradients[:] = 0
    for moments in optimizer.slots.values():
        moments[:] = np.where(np.arange(moments.size) % 2, 2e-38, -2e-38)
    smallest = np.finfo(np.float32).smallest_normal
    for _ in range(100):
        optimizer.step(model)
        for name, moments in optimizer.slots.items():
            assert not ((moments != 0) & (np.abs(moments) < smallest)).any(), name
    if optimizer.name != "adagrad":  # whose sums never decay
        assert any((moments == 0).any() for moments in optimizer.slots.values())


# -- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item))], ids=["deep", "pickle"]
)
@every_optimizer
def test_a_copy_goes_on_where_the_optimizer_was(make, copied):
    optimizer, model = make(), small_model()
    optimizer.groups = [nc.ParamGroup("*.bias", learning_rate=0.01)]
    stepped(optimizer, 3, model)
    again, twin = copied(optimizer), copied(model)
    expected = stepped(optimizer, 3, model)
    assert again.steps == 3
    for name, array in stepped(again, 3, twin).items():
        np.testing.assert_array_equal(array, expected[name], name)
    assert again.steps == optimizer.steps == 6


def test_a_copy_rejects_a_model_of_other_parameters(rng):
    optimizer = nc.Adam()
    stepped(optimizer)
    with pytest.raises(ArgumentError, match="copied from one that served a model with other parameters"):
        copy.deepcopy(optimizer).attach(odd_model())
