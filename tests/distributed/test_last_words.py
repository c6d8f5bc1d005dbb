"""The last line of a rank that ends a job: the launcher has to read it before the job ends."""

import os
import time

from numbacnn.distributed import group


def test_a_rank_waits_until_its_last_line_is_read(monkeypatch):
    reader, writer = os.pipe()
    os.write(writer, b"error: a line\n")
    read = []
    monkeypatch.setattr(time, "sleep", lambda seconds: read.append(os.read(reader, 100)))
    group.await_reader(writer)
    assert read == [b"error: a line\n"]  # it returned after the line was read, and not before
    group.await_reader(writer)
    assert len(read) == 1


def test_a_rank_waits_for_a_reader_only_so_long_and_not_for_a_file(monkeypatch, tmp_path):
    _, writer = os.pipe()
    os.write(writer, b"error: a line\n")
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", iter([0.0, 0.5, 1.5]).__next__)
    group.await_reader(writer)
    assert len(slept) == 1
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    with (tmp_path / "log").open("wb") as file:
        file.write(b"error: a line\n")
        group.await_reader(file.fileno())
    assert len(slept) == 1
