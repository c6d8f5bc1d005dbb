"""A browser, servers started as a user starts them, and what the tests need of them.

The tests need Chromium, the packages playwright and numbacnn[serve], and for the checks of accessibility a file of
axe-core that NUMBACNN_AXE names. Without them they are skipped, or with NUMBACNN_REQUIRE_BROWSER=1 they fail.
"""

import os
import shutil
from pathlib import Path

import pytest
from browsing import Visit, serving

import numbacnn as nc

REQUIRED = os.environ.get("NUMBACNN_REQUIRE_BROWSER") == "1"


def unavailable(what):
    """Skip the test, or fail it where a browser is required."""
    (pytest.fail if REQUIRED else pytest.skip)(f"{what} is not installed")


@pytest.fixture(scope="session")
def browser():
    if (chromium := shutil.which("chromium")) is None:
        unavailable("chromium")
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        unavailable(str(error.name))
    with sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe():
    file = os.environ.get("NUMBACNN_AXE")
    if file is None:
        unavailable("axe-core, which NUMBACNN_AXE names,")
    return Path(file).read_text("utf-8")


@pytest.fixture
def visit(browser):
    opened = []

    def open_page(*arguments, **options):
        opened.append(Visit(browser, *arguments, **options))
        return opened[-1]

    yield open_page
    for each in opened:
        each.context.close()


@pytest.fixture(scope="session")
def bundled(browser):
    """The address of the bundled model."""
    with serving() as url:
        yield url


@pytest.fixture(scope="session")
def model():
    """The bundled model."""
    from numbacnn.serve.bundled import load_bundled

    nc.set_num_threads(1)
    return load_bundled("mnist")
