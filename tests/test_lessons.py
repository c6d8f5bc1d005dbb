"""The exercises of the lessons report a hole, and accept the solution. The documentation's build runs the lessons."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from test_docs import blocks

LESSONS = sorted((Path(__file__).parents[1] / "docs" / "lessons").glob("[1-9]*.md"))

every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


def exercise(lesson):
    """Return the code of a lesson's imports, of its exercise, of its check, and of its solution."""
    imports = blocks(lesson, "python")[0].partition("\ntrain, test")[0]
    section = lesson.read_text("utf-8").partition("\n## Exercise")[2]
    hole, check = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (solution,) = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
    return imports.partition("\nIMAGES")[0], hole, check, solution


def printed(*code):
    pytest.importorskip("matplotlib", reason="the lessons draw")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n".join(code), "lesson", "exec"), {"__name__": "lesson"})
    return out.getvalue()


@every_lesson
def test_an_exercise_reports_its_hole(lesson, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    imports, hole, check, _ = exercise(lesson)
    assert printed(imports, hole, check).startswith("not yet: ")


@every_lesson
def test_a_solution_is_correct(lesson, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    imports, hole, check, solution = exercise(lesson)
    assert printed(imports, hole, solution, check) == "correct\n"


def test_there_are_six_lessons_each_with_links_from_the_index():
    index = (LESSONS[0].parent / "index.md").read_text("utf-8")
    assert len(LESSONS) == 6
    assert all(f"({lesson.name})" in index for lesson in LESSONS)
