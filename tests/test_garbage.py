"""The collector of cyclic garbage is off in the block, and then as before."""

import gc

import pytest

from numbacnn._checks.garbage import without_collection


def test_the_collector_is_off_in_nested_blocks_and_restored():
    with without_collection():
        assert not gc.isenabled()
        with without_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_is_restored_after_an_error():
    with pytest.raises(KeyError), without_collection():
        raise KeyError
    assert gc.isenabled()
