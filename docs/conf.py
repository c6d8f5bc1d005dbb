"""Configuration of the documentation site: ``sphinx-build -W -c docs . build/site`` builds it, from the root.

The sources are the Markdown files as they are. Lessons are run, and each can be downloaded as a notebook.
"""

import json
import re
import sys
from pathlib import Path

from numpy.typing import ArrayLike
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

sys.path.insert(0, str(Path(__file__).parent))  # for ``pictures``

project = html_title = "numbacnn"
author = "the numbacnn authors"
language = "en"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "numbacnn/data/digits.md",
]
exclude_patterns = ["docs/**/*.ipynb", "docs/static"]

sphinx_gallery_conf = {
    "examples_dirs": "examples/gallery",
    "gallery_dirs": "docs/gallery",  # written by the build; the examples run again if they changed
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("pictures.save_figures",),
    "reset_modules": (),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,  # the time on the builder's machine says nothing
    "show_signature": False,
    "remove_config_comments": True,
}

myst_heading_anchors = 4  # links to headings, as GitHub makes them
nb_execution_mode = "cache"  # runs the pages with code cells, the lessons, if they changed since the last build
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds for a cell
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # fields of a NamedTuple are listed once

suppress_warnings = ["ref.python"]  # a word of a type's name that several classes have as a field

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = html_show_copyright = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")
LESSON = """---
file_format: mystnb
kernelspec:
  name: python3
---

"""


def lesson_as_notebook(app: Sphinx, page: str, source: list[str]) -> None:
    """Make the Python blocks of a lesson the cells of a notebook."""
    if page.startswith("docs/lessons/") and not page.endswith("index"):
        download = f"Download this lesson as a notebook: {{nb-download}}`{Path(page).name}.ipynb`\n\n## "
        cells = re.sub(r"^```python$", "```{code-cell} python", source[0], flags=re.MULTILINE)
        source[0] = LESSON + cells.replace("## ", download, 1)


def docstring_as_text(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Escape what is markup to Sphinx and plain text in our docstrings: |x|, x*, and names that end in ``_``."""
    for i, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        parts[::2] = [re.sub(r"([|*]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
        lines[i] = "".join(parts)


def short_types(
    app: Sphinx, what: str, name: str, found: object, options: object, signature: str, result: str
) -> tuple:
    """Write ArrayLike, not the union that it stands for."""
    return (signature and signature.replace(ARRAY_LIKE, "ArrayLike")), result


ACCESSIBLE = {  # what assistive technology needs, and Sphinx leaves out
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    "<pre>": '<pre tabindex="0">',  # code that is wider than a narrow page scrolls, also with the keyboard
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
}


def finish_pages(app: Sphinx, error: Exception | None) -> None:
    """Make every page usable by keyboard, and the first page the root; note how long each lesson ran."""
    if error is not None:
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text("utf-8")
        for found, better in ACCESSIBLE.items():
            text = text.replace(found, better)
        page.write_text(text, "utf-8")
    runs = {page: data["exec_data"] for page, data in app.env.nb_metadata.items() if data.get("exec_data")}
    seconds = {page.rpartition("/")[2]: run["runtime"] for page, run in runs.items()}
    (Path(app.outdir) / "lessons.json").write_text(json.dumps(seconds))
    to = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">'
    page = f'<!doctype html><html lang="en"><head>{to}<title>numbacnn</title></head><body></body></html>'
    (Path(app.outdir) / "index.html").write_text(page, "utf-8")


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.add_lexer("pdb", TextLexer)
    app.connect("source-read", lesson_as_notebook)
    app.connect("autodoc-process-docstring", docstring_as_text, priority=100)
    app.connect("autodoc-process-signature", short_types)
    app.connect("build-finished", finish_pages)
