"""Shards on one rank: how a batch is cut, the order of sums, and gradients against the float64 reference."""

import math

import numpy as np
import pytest
from test_bad_numbers import Spike
from trainings import data, model, options

import numbacnn as nc
from numbacnn.data.loader import DataLoader
from numbacnn.data.normalization import Normalization
from numbacnn.distributed import Shards, subtrees, sums
from numbacnn.engine.device import get_device
from numbacnn.kernels.cpu.conv.winograd import Winograd
from numbacnn.kernels.cpu.conv.winograd import winograd as rounds_and_blocks
from numbacnn.training.trainer import Trainer


@pytest.mark.parametrize("images", [1, 5, 16, 17, 100])
def test_shards_divide_a_batch_evenly(images):
    shards = Shards(16)
    starts = [shards.start(s, images) for s in range(17)]
    sizes = np.diff(starts)
    assert (starts[0], starts[-1]) == (0, images)
    assert sizes.max() - sizes.min() <= 1
    assert shards.sizes(images) == set(sizes.tolist()) - {0}


@pytest.mark.parametrize("count", [0, -1, 2.5, 1 << 17])
def test_the_number_of_shards_has_a_range(count):
    with pytest.raises(nc.ArgumentError, match="shards"):
        Shards(count)


@pytest.mark.parametrize("ranks", range(1, 17))
def test_ranks_share_all_shards_in_order_and_their_subtrees_cover_them(ranks):
    shards = Shards(16)
    shares = [shards.share(rank, ranks) for rank in range(ranks)]
    assert [shard for share in shares for shard in share] == list(range(16))
    covered = [
        leaf
        for share in shares
        for node in subtrees(share)
        for leaf in range(node.number << node.level, (node.number + 1) << node.level)
    ]
    assert covered == list(range(16))


def test_more_ranks_than_shards_are_an_error_that_gives_enough():
    with pytest.raises(nc.ArgumentError, match=r"17 ranks for 16 shards.*--shards 32"):
        Shards(16).share(0, 17)


def tree(values):
    """The sum of the rows in the order of the binary tree."""
    level = list(values)
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0]


@pytest.mark.parametrize("block", [0, 1 << 14], ids=["in turn", "small ranges in a block"])
@pytest.mark.parametrize("count", [16, 13, 6])
@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 7, 16])
def test_partial_sums_of_any_ranks_finish_to_the_bits_of_the_tree(ranks, level, count, block, monkeypatch):
    """Numbers over eight decades, of which each order of additions gives other bits; of shards or of groups of four."""
    monkeypatch.setattr(sums, "BLOCK_BYTES", block)
    shards, kernels, size = Shards(count), get_device("cpu").kernels, 5008
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(count, size)) * 10.0 ** rng.uniform(-4, 4, (count, size))).astype(np.float32)
    expected = tree(values)
    ranks = min(ranks, count)
    known = {}
    for rank in range(ranks):
        share = shards.share(rank, ranks)
        found = sums.GradientSums(kernels, np.empty(size, np.float32), share)
        for start, stop in ((0, 4800), (4800, size)):
            part, groups = found.range(start, stop, level), found.groups(level)
            for group, target, additions in zip(groups, part.targets, part.additions, strict=True):
                target[:] = tree(values[share[group], start:stop])
                for add in additions:
                    add()
        assert found.nodes == subtrees(share)
        known |= dict(zip(found.nodes, found.totals, strict=True))
    total = sums.finish(lambda y, x: np.add(y, x, out=y), shards.root, known, count)
    np.testing.assert_array_equal(total, expected)


LAYERS = {
    "plain": lambda: [nc.Conv2D(8, 3), nc.ReLU(), nc.MaxPool2D(2), nc.Flatten(), nc.Dense(3)],
    "penalties": lambda: [nc.Conv2D(8, 3, l2=0.1), nc.ReLU(), nc.GlobalAvgPool2D(), nc.Dense(3, l1=0.01)],
}
LOSSES = {
    "cross_entropy": "cross_entropy",
    "class weights": nc.losses.CrossEntropy(class_weights=[0.2, 1.0, 3.0]),
    "ignored labels": nc.losses.CrossEntropy(ignore_index=1),
    "focal": nc.losses.Focal(class_weights=[1.0, 0.5, 2.0]),
}


def gradients(layers, loss, device="cpu", images=37, **changes):
    """The gradients and the loss of the first step of a training, whose learning rate is 0."""
    net = nc.Sequential(layers, (8, 8, 1), seed=1, device=device)
    net.normalization = None
    history = net.fit(data(images), batch_size=images, epochs=1, optimizer=nc.SGD(0.0), loss=loss, **changes)
    return np.concatenate([value.reshape(-1) for value in net.gradients.values()]), history.epochs[0]


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("shards", [2, 6, 16, 64])
def test_gradients_are_those_of_the_whole_batch(layers, loss, shards):
    """37 images in 16 shards of two or three, or in 64 of one or none: against one batch, and float64."""
    found, record = gradients(layers(), loss, shards=shards)
    whole, expected = gradients(layers(), loss)
    oracle, _ = gradients(layers(), loss, device="reference")
    for truth in (whole, oracle):
        assert np.linalg.norm(found - truth) <= 1e-6 * np.linalg.norm(truth)
    assert record.loss == pytest.approx(expected.loss, rel=1e-6)
    assert record.accuracy == expected.accuracy


def winograd(size, algorithm):
    """Channels and filters that are no multiple of a vector or of a block of the kernels."""
    pad = size // 2
    wide = nc.Conv2D(70, size, padding=pad, algorithm=algorithm), nc.Conv2D(66, 3, padding=1, algorithm=algorithm)
    end = nc.Dense(53), nc.ReLU(), nc.Dense(3, bias=False)
    return [nc.Conv2D(72, 3, padding=1), nc.ReLU(), wide[0], nc.ReLU(), wide[1], nc.GlobalAvgPool2D(), *end]


def narrow():
    """Few channels, for Winograd's algorithm in blocks of tiles, with sums on the stack and in scratch."""
    start = nc.Conv2D(9, 3, padding=1), nc.ReLU(), nc.Conv2D(22, 3, padding=1, algorithm="winograd4"), nc.BatchNorm()
    end = nc.Conv2D(48, 5, padding=2, algorithm="winograd2"), nc.ReLU(), nc.GlobalAvgPool2D(), nc.Dense(3)
    return [*start, nc.ReLU(), *end]


def strided():
    """Direct convolutions with batch normalization: few and many weights, groups, and ReLU's gradient."""
    start = nc.Conv2D(24, 3, padding=1, bias=False), nc.BatchNorm(), nc.ReLU()
    middle = nc.Conv2D(48, 3, stride=2, padding=1), nc.BatchNorm(), nc.ReLU(), nc.Conv2D(64, 1, groups=2)
    return [*start, *middle, nc.BatchNorm(), nc.GlobalAvgPool2D(), nc.Dense(3)]


def pooled():
    """Convolutions whose gradients come from that of the max-pool, and a transposed one."""
    start = nc.Conv2D(6, 5, padding=2), nc.ReLU(), nc.MaxPool2D(2), nc.Conv2D(16, 3, padding=1), nc.ReLU()
    return [*start, nc.MaxPool2D(2), nc.Conv2DTranspose(5, 2, stride=2), nc.Flatten(), nc.Dense(20), nc.Dense(3)]


NETWORKS = {
    "winograd4": lambda: winograd(3, "winograd4"),
    "winograd2": lambda: winograd(5, "winograd2"),
    "narrow": narrow,
    "direct": strided,
    "pooled": pooled,
}


@pytest.mark.parametrize(
    ("network", "images", "shards"),
    [("winograd4", 37, 16), ("winograd4", 5, 16), ("winograd4", 64, 6), ("winograd4", 91, 2), ("winograd2", 37, 16),
     ("narrow", 37, 16), ("narrow", 5, 16),
     ("direct", 37, 16), ("direct", 32, 16), ("direct", 5, 16), ("direct", 65, 2), ("direct", 300, 3),
     ("pooled", 37, 16), ("pooled", 64, 32), ("pooled", 5, 16), ("pooled", 300, 3)],
)  # fmt: skip
def test_layers_that_add_shards_themselves_have_the_bits_of_one_at_a_time(network, images, shards, monkeypatch):
    """Empty shards, a number other than a power of two, and a shard too large for one round of Winograd's algorithm."""
    given = {"shards": shards, "images": images}
    blocks, kernel = [], rounds_and_blocks.block_gradient_kernel
    monkeypatch.setattr(rounds_and_blocks, "block_gradient_kernel", lambda f: blocks.append(f) or kernel(f))
    found, _ = gradients(NETWORKS[network](), "cross_entropy", **given)
    assert bool(blocks) == (network == "narrow"), "weight gradients in blocks of tiles"
    oracle, _ = gradients(NETWORKS[network](), "cross_entropy", device="reference", **given)
    for layer in (nc.Conv2D, nc.Conv2DTranspose, nc.Dense, nc.BatchNorm):
        whole = layer.shards_at_once

        def one(*given, whole=whole):
            return {name: min(1, shards) for name, shards in whole(*given).items()}

        monkeypatch.setattr(layer, "shards_at_once", one)
    alone, _ = gradients(NETWORKS[network](), "cross_entropy", **given)
    assert found.tobytes() == alone.tobytes()
    monkeypatch.setattr(Winograd, "shards_at_once", lambda *given: 0)  # as on a rank with a larger shard
    as_a_batch, _ = gradients(NETWORKS[network](), "cross_entropy", **given)
    assert found.tobytes() == as_a_batch.tobytes()
    assert np.linalg.norm(found - oracle) <= 1e-6 * np.linalg.norm(oracle)


@pytest.mark.parametrize("network", [strided, pooled], ids=["direct", "pooled"])
def test_the_number_of_launches_does_not_grow_with_the_shards(network):
    """Each is a parallel region, of which a small network's step would mostly consist."""

    def launches(shards):
        net = nc.Sequential(network(), (8, 8, 1), seed=1)
        given = {"batch_size": 32, "epochs": 1, "optimizer": nc.SGD(0.1), "seed": 0, "shards": shards}
        trainer = Trainer(net, nc.data.Dataset.of(data(32)), **given)
        for event in trainer.run():
            if isinstance(event, nc.StepEnd):
                break
        (bound,) = trainer._loop._executor._bound.values()
        return sum(len(step.launches) for step in bound.forward + bound.backward)

    assert launches(16) <= 1.5 * launches(1)


def fit(net, **changes):
    given = options() | {"epochs": 2, "callbacks": []} | changes
    history = net.fit(given.pop("train"), **given)
    return {name: value.tobytes() for name, value in net.store.arrays().items()}, history


def test_one_shard_is_training_without_shards_bit_for_bit():
    """With batch normalization, dropout, mixup, accumulation and a moving average."""
    assert fit(model(), shards=1)[0] == fit(model())[0]


def test_running_statistics_move_by_the_mean_over_the_shards():
    """Ghost batches: each shard has its own mean and variance, and those count by their number of images."""
    images, labels = data(10)

    def statistics(shards, images, labels):
        net = nc.Sequential([nc.BatchNorm(momentum=0.5), nc.Flatten(), nc.Dense(3)], (8, 8, 1), seed=1)
        net.normalization = Normalization.identity(1)
        net.fit((images, labels), batch_size=len(images), epochs=1, optimizer=nc.SGD(0.0), shards=shards, seed=0)
        return np.array([net.state["batch_norm_1.running_mean"], net.state["batch_norm_1.running_var"]]).reshape(2)

    order = DataLoader(nc.data.Dataset.of((images, labels)), 10).order(0)
    cut = [order[start:stop] for start, stop in ((0, 2), (2, 5), (5, 7), (7, 10))]
    each = [statistics(1, images[part], np.arange(len(part)) % 3) for part in cut]
    expected = sum(len(part) / 10 * found for part, found in zip(cut, each, strict=True))
    np.testing.assert_allclose(statistics(4, images, labels), expected, rtol=1e-6)


def test_a_training_in_shards_resumes_to_the_same_bits(tmp_path):
    expected, _ = fit(model(), shards=4, checkpoint=tmp_path / "whole")

    class Stop:
        def __call__(self, event):
            return isinstance(event, nc.StepEnd) and (event.epoch, event.step) == (2, 4)

    net = model()
    fit(net, shards=4, checkpoint=tmp_path / "part", checkpoint_every=1, callbacks=[Stop()])
    assert fit(model(seed=2), shards=4, checkpoint=tmp_path / "part", resume=True)[0] == expected
    with pytest.raises(nc.ArgumentError, match="with shards 4, not 8"):
        fit(model(), shards=8, checkpoint=tmp_path / "part", resume=True)


def test_a_bad_number_in_a_shard_is_named():
    layers = [nc.Conv2D(4, 3), Spike("forward", math.nan, 14), nc.Flatten(), nc.Dense(3)]
    message = 'the loss is nan at epoch 1, step 4: NaN or infinity appears first in the output of Spike "spike'
    with pytest.raises(nc.NumbacnnError, match=message):
        nc.Sequential(layers, (8, 8, 1), seed=1).fit(data(40), batch_size=8, epochs=1, shards=4)


def test_a_batch_with_a_bad_shard_is_skipped_whole():
    """Its running statistics too."""
    layers = [nc.Conv2D(4, 3), nc.BatchNorm(), Spike("forward", math.nan, 14, 14), nc.Flatten(), nc.Dense(3)]
    net = nc.Sequential(layers, (8, 8, 1), seed=1)
    history = net.fit(data(40), batch_size=8, epochs=1, shards=4, on_nan="skip")
    assert history.epochs[0].skipped == 1
    assert all(np.isfinite(value).all() for value in net.store.arrays().values())


def test_a_shard_of_one_value_has_no_variance():
    net = nc.Sequential([nc.Dense(4), nc.BatchNorm(), nc.Dense(3)], (64,), seed=1)
    images = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
    with pytest.raises(nc.ArgumentError, match=r"one of its 16 shards, has 1.*no variance"):
        net.fit((images, np.arange(32) % 3), batch_size=16, epochs=1, shards=16)


def test_a_model_without_parameters_has_nothing_to_add():
    net = nc.Sequential([nc.GlobalAvgPool2D()], (8, 8, 3))
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    losses = [net.fit((images, np.arange(8) % 3), batch_size=4, epochs=1, shards=n).epochs[0].loss for n in (None, 2)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_the_option_of_synchronized_statistics_is_a_flag():
    with pytest.raises(nc.ArgumentError, match="sync_batch_norm='no'"):
        model().fit(data(40), batch_size=8, epochs=1, shards=4, sync_batch_norm="no")
