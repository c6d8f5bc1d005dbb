"""The documentation site, whose folder NUMBACNN_SITE names: links, lessons, and pages in Chromium.

``sphinx-build -W -c docs . build/site`` builds it.
"""

import json
import os
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(os.environ.get("NUMBACNN_SITE", "missing")).resolve()
PAGES = sorted(SITE.glob("docs/**/*.html")) + sorted(SITE.glob("*.html"))

pytestmark = pytest.mark.skipif(not PAGES, reason="NUMBACNN_SITE names no folder of a site")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(SITE).as_posix())


class Content(HTMLParser):
    """The identifiers of a page, and what it links to or loads."""

    def __init__(self):
        super().__init__()
        self.identifiers, self.links = set(), []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.identifiers |= {found[name] for name in ("id", "name") if found.get(name)}
        self.links += [found[name] for name in ("href", "src") if found.get(name)]


@cache
def content(page):
    parser = Content()
    parser.feed(page.read_text("utf-8"))
    return parser


@every_page
def test_links_inside_the_site_lead_somewhere(page):
    lost = []
    for link in content(page).links:
        parts = urlsplit(link)
        if parts.scheme or link.startswith(("#!", "data:")):
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        fragment = unquote(parts.fragment)
        if not target.is_file() or (
            fragment and target.suffix == ".html" and fragment not in content(target).identifiers
        ):
            lost.append(link)
    assert not lost


def test_all_lessons_ran_and_took_at_most_six_minutes():
    seconds = json.loads((SITE / "lessons.json").read_text())
    print(f"seconds of each lesson: {seconds}, {sum(seconds.values()):.0f} in all")
    assert len(seconds) == 6
    assert sum(seconds.values()) <= 360


@pytest.mark.parametrize("lesson", sorted(SITE.glob("docs/lessons/[1-9]*.html")), ids=lambda page: page.stem)
def test_a_lesson_has_its_notebook_and_pictures(lesson):
    links = content(lesson).links
    (notebook,) = [link for link in links if link.endswith(".ipynb")]
    cells = json.loads((lesson.parent / notebook).resolve().read_text("utf-8"))["cells"]
    assert sum(cell["cell_type"] == "code" for cell in cells) >= 8
    assert any("_images" in link for link in links)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1400, "light")])
@every_page
def test_a_page_fits_is_accessible_and_loads_nothing_from_elsewhere(visit, axe, page, width, scheme):
    if page == SITE / "index.html":
        pytest.skip("it only leads to the first page")
    opened = visit(page.as_uri(), width, scheme)
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert opened.faults == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.serious(axe) == []
