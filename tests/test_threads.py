"""The same bits on any number of threads and in any process, and correct results at any vector width."""

import json
import platform
import threading
import time
from pathlib import Path

import fingerprints
import numpy as np
import pytest
from processes import run_python

import numbacnn as nc
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError

TESTS = Path(__file__).parent
THREADS = (1, 2, 3, 4, 8)
# More threads than cores should yield to each other instead of spinning.
CALM = {"OMP_WAIT_POLICY": "PASSIVE", "NUMBA_NUM_THREADS": str(max(THREADS))}


def differing(found, expected):
    assert found.keys() == expected.keys()
    return [name for name in expected if found[name] != expected[name]]


def test_the_same_bits_on_any_number_of_threads_and_in_another_process():
    """Forward, gradients and fifty training steps, by hash: on 1 thread here, and on 1 to 8 in another process."""
    here = fingerprints.fingerprints()
    found = json.loads(run_python(TESTS / "fingerprints.py", ",".join(map(str, THREADS)), **CALM))
    assert [int(threads) for threads in found] == list(THREADS)
    wrong = {threads: differing(hashes, here) for threads, hashes in found.items()}
    assert not any(wrong.values()), f"threads: results with other bits than on one thread: {wrong}"


# Neither the oracle against itself, nor tests without kernels.
KERNELS_ONLY = "not difference and not repeat and not larger"


SOME = ("kernels", "pooled_convolution", "rounds", "masking", "special_values", "plan")
ALL = (*SOME, "layers", "normalization", "dropout")  # every case of the table of layers


@pytest.mark.long
@pytest.mark.parametrize(
    ("lanes", "parts"),
    [("8", SOME), *(pytest.param(lanes, ALL, marks=pytest.mark.huge) for lanes in ("4", "8"))],
    ids=["8-some", "4-all", "8-all"],
)
def test_cases_pass_at_a_forced_vector_width_on_any_number_of_threads(lanes, parts):
    """Kernels compile for the width, and are compared with the oracle."""
    width = {"NUMBACNN_VECTOR_WIDTH": lanes}
    files = [TESTS / f"test_{part}.py" for part in parts]
    printed = run_python("-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", KERNELS_ONLY, *files, **width)
    assert " passed" in printed
    found = json.loads(run_python(TESTS / "fingerprints.py", "1,2,4", **CALM, **width))
    assert not differing(found["2"], found["1"])
    assert not differing(found["4"], found["1"])


@pytest.mark.parametrize("lanes", ["5", "32", "wide"])
def test_other_vector_widths_are_rejected(lanes, monkeypatch):
    from numbacnn.kernels import target

    monkeypatch.setenv(target.WIDTH_VARIABLE, lanes)
    with pytest.raises(ArgumentError, match=f"NUMBACNN_VECTOR_WIDTH={lanes}: choose 4, 8 or 16"):
        target.host_target.__wrapped__()


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_a_vector_width_can_be_forced(lanes, monkeypatch):
    from numbacnn.kernels import target

    monkeypatch.setenv(target.WIDTH_VARIABLE, str(lanes))
    assert target.host_target.__wrapped__().lanes == lanes
    assert target.host_target.__wrapped__().nr == 2 * lanes


def test_the_number_of_threads_is_limited_by_the_process():
    import numba

    limit, before = numba.config.NUMBA_NUM_THREADS, nc.get_num_threads()
    try:
        nc.set_num_threads(limit)
        assert nc.get_num_threads() == limit
        for count in (0, -1, limit + 1, 1.5):
            with pytest.raises(ArgumentError, match=f"{count} threads: choose 1 to {limit}"):
                nc.set_num_threads(count)
        assert nc.get_num_threads() == limit
    finally:
        nc.set_num_threads(before)


def test_the_number_of_threads_applies_in_every_python_thread():
    import numba

    found, before = [], nc.get_num_threads()

    def look():
        with engine_lock:
            found.append(numba.get_num_threads())

    def look_twice():
        look()
        changed.wait()
        look()

    changed, other = threading.Event(), threading.Thread(target=look_twice)
    try:
        nc.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        look()
        other.start()
        while len(found) < 2:
            time.sleep(0.001)
        nc.set_num_threads(1)
        look()
        changed.set()
        other.join()
    finally:
        nc.set_num_threads(before)
    assert found == [numba.config.NUMBA_NUM_THREADS] * 2 + [1] * 2


def test_models_run_in_several_python_threads_at_once(rng):
    models = [
        nc.Sequential([nc.Conv2D(8, 3), nc.ReLU(), nc.Flatten(), nc.Dense(3)], (9, 9, 2), seed=n) for n in range(4)
    ]
    x = rng.standard_normal((5, 9, 9, 2)).astype(np.float32)
    expected = [model.forward(x) for model in models]
    wrong = []

    def work(model, y):
        wrong.extend(n for n in range(50) if not np.array_equal(model.forward(x), y))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(models, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(platform.machine() != "x86_64", reason="settings of x86")
@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("NUMBA_ENABLE_AVX", "0", "SSE 4 False"),
        ("NUMBA_CPU_NAME", "generic", "SSE 4 False"),
        ("NUMBA_CPU_FEATURES", "+avx,+avx2,+fma", "AVX2 8 True"),
        ("NUMBA_CPU_FEATURES", "+avx512f,+avx512vl,+avx512dq,+avx512bw", "AVX-512 16 True"),
    ],
)
def test_numbas_settings_of_the_processor_are_used(variable, value, expected):
    script = "from numbacnn.kernels.target import host_target as h; print(h().instruction_set, h().lanes, h().fma)"
    assert run_python("-c", script, **{variable: value}) == f"{expected}\n"
