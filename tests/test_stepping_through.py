"""docs/stepping-through.md: the debugger's session on the page is what pdb prints."""

import re
import subprocess
import sys

from test_docs import DOCS, blocks

PAGE = DOCS / "stepping-through.md"
LEFT_OUT = ("> ", "Breakpoint ", "--Return--")  # of pdb's output: paths and line numbers


def session(text):
    """[(command, the lines it prints)] of what pdb prints."""
    parts = re.split(r"^\(Pdb\) ", text, flags=re.MULTILINE)[1:]
    return [(lines[0], lines[1:]) for lines in (part.rstrip().split("\n") for part in parts)]


def test_the_session_on_the_page_is_what_the_debugger_prints(tmp_path):
    expected = session("\n".join(blocks(PAGE, "pdb")))
    (script,) = blocks(PAGE, "python")
    (tmp_path / "step.py").write_text(script)
    commands = "".join(f"{command}\n" for command, _ in expected)
    pdb = subprocess.run(
        [sys.executable, "-m", "pdb", "step.py"], input=commands, cwd=tmp_path, capture_output=True, text=True
    )
    printed = re.split(r"\(Pdb\) ", pdb.stdout)[1:]
    for (command, lines), part in zip(expected, printed, strict=True):
        found = [line for line in part.rstrip().split("\n") if line and not line.startswith(LEFT_OUT)]
        assert found == lines, f"(Pdb) {command}"
