"""Shared by all tests: the hypothesis profile, random numbers, and the folder of data sets."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import numbacnn as nc
from numbacnn.layers import REGISTRY

# The same examples in every run, and no deadline: a kernel's first call compiles it.
settings.register_profile("numbacnn", derandomize=True, deadline=None, database=None)
settings.load_profile("numbacnn")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """One thread: the cases are too small for a second, and no bit depends on it (``test_threads.py``)."""
    nc.set_num_threads(1)


@pytest.fixture(autouse=True)
def _registry():
    """Layers that a test registers are removed after it."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def data_folder():
    """The folder of data sets that NUMBACNN_TEST_DATA names."""
    named = os.environ.get("NUMBACNN_TEST_DATA")
    if not named:
        pytest.skip("set NUMBACNN_TEST_DATA to a folder with the MNIST files in its subfolder mnist")
    return Path(named)
