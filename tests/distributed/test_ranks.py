"""Several ranks with MPI: the same bits as one rank, and a common end. The long form has more ranks and networks."""

from functools import cache

import pytest
from ranks import IS_MPICH, JOB, finish, hash_of, run, start

one_rank = cache(lambda case: hash_of(1, case))


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("case", ["small", "small_synchronized", "uneven"])
def test_ranks_learn_the_same_bits_as_one(case, ranks):
    """Dropout, batch normalization, mixup, accumulation, a moving average, and batches smaller than the shards."""
    assert hash_of(ranks, case) == one_rank(case)


@pytest.mark.long
@pytest.mark.huge
@pytest.mark.parametrize(
    "case", ["lenet5", "small", "small_synchronized", "resnet18", "resnet18_synchronized", "unet", "detector"]
)
@pytest.mark.parametrize(("ranks", "threads"), [(1, 2), (2, 1), (2, 2), (3, 1), (4, 1), (5, 1), (7, 1)])
def test_more_ranks_and_networks_learn_the_same_bits(case, ranks, threads):
    assert hash_of(ranks, case, threads=threads) == one_rank(case)


@pytest.mark.parametrize("ranks", [2])
def test_ranks_evaluate_to_the_numbers_of_one(ranks):
    assert run(ranks, JOB, "evaluate") == run(1, JOB, "evaluate")


def test_a_rank_with_other_arguments_is_rejected_by_name():
    code, _, err = finish(start(2, JOB, "other_seed"))
    assert code == 1
    assert "rank 1 on " in err
    assert "has seed 1, rank 0 has 0: start all ranks with the same options" in err


def test_an_error_on_one_rank_ends_all():
    code, _, err = finish(start(3, JOB, "error_on_rank_1"), timeout=60)
    assert code == 1
    assert "NumbacnnError: rank 1 on" in err
    assert "an error of one rank" in err


def test_a_communicator_that_has_failed_is_rejected_at_once():
    lines = sorted(run(2, JOB, "fit_after_an_error").splitlines())
    assert [line[:2] for line in lines] == ["0:"] * 3 + ["1:"] * 3
    assert sum("this communicator has failed" in line for line in lines) == 4
    assert all("an error of one rank" in line for line in lines)


def test_ranks_that_were_stopped_train_again():
    assert run(2, JOB, "train_after_a_stop").split() == ["0", "2"]


@pytest.mark.skipif(not IS_MPICH, reason="mpiexec of another MPI ends the job itself")
def test_a_rank_that_stops_at_its_end_ends_all():
    code, _, err = finish(start(2, JOB, "stop_at_the_end"), timeout=30)
    assert code == 1
    assert "error: rank 1 on " in err
    assert "has not answered for" in err
