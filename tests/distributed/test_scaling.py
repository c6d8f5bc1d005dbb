"""The benchmark of shards, and the simulation of many ranks (``benchmarks/scaling.py``)."""

import json
import runpy
from pathlib import Path

import pytest
from command_line import numbacnn, rejected

SCALING = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "scaling.py"))
LINK = (0.0, 1e9)  # no latency, 1 GB/s


def test_bench_compares_steps_in_shards_with_steps_without():
    found = json.loads(numbacnn("bench", "train", "--shards", "4", "--batch-size", "16", "--quick", "--json").out)
    assert (found["batch"], found["shards"]) == (16, 4)
    assert found["ratio"] > 0


def test_one_rank_has_no_communication():
    assert SCALING["step"](1, 16, 0.1, 4e7, LINK) == (pytest.approx(1.6), 0.0)


def test_two_ranks_wait_for_the_bytes_that_do_not_fit_into_the_backward_pass():
    """Half of 600 MB leaves and half returns, in buckets of 4 MiB at 1 GB/s: 0.6 s, of which 0.2 s are left over."""
    seconds, exposed = SCALING["step"](2, 2, 0.6, 6e8, LINK)
    assert seconds == pytest.approx(0.6 + exposed)
    assert exposed == pytest.approx(0.2, abs=0.01)


def test_uneven_shares_and_more_sums_cost_time():
    """Three ranks for four shards: one has two of them; five ranks for 16 shards send up to two sums each."""
    assert SCALING["step"](3, 4, 0.1, 0.0, LINK)[0] == pytest.approx(0.2, rel=1e-3)
    even, uneven = (SCALING["step"](ranks, 16, 0.001, 6e8, LINK)[1] for ranks in (4, 5))
    assert uneven > 1.5 * even


def test_bench_names_the_options_that_do_not_apply_to_steps_in_shards():
    given = ("--inference", "--layers", "--cold", "--memory", "--plot", "roofline.svg", "--peers")
    rejected(
        "leave out --inference, --layers, --cold, --memory, --plot, --peers",
        *("bench", "train", "--shards", "4", *given),
        code=2,
    )
