"""A visit of a page in a browser, and servers started as a user starts them."""

import re
import time
from contextlib import contextmanager

from command_line import process


class Visit:
    """A page at a width and color scheme; every request, error and message of the console is kept."""

    def __init__(self, browser, url, width=1400, scheme="light", **options):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        self.page = self.context.new_page()
        self.requests, self.faults = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        self.page.goto(url)

    def draw(self, strokes):
        """Draw strokes, lists of points from 0 to 1 of the drawing area, with the mouse."""
        self.page.locator("#pad").scroll_into_view_if_needed()
        box, mouse = self.page.locator("#pad").bounding_box(), self.page.mouse
        for stroke in strokes:
            positions = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
            mouse.move(*positions[0])
            mouse.down()
            for position in positions[1:]:
                mouse.move(*position)
            mouse.up()

    def wait(self, condition, seconds=20):
        """Wait until an expression in the page is true. (Playwright's own way is what the page's policy forbids.)"""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"not within {seconds} s: {condition}"
            self.page.wait_for_timeout(30)

    def answer(self):
        """The most probable class, once the page shows the last drawing."""
        self.settle()
        return self.page.evaluate("numbacnn.state.prediction.class")

    def settle(self):
        self.wait("numbacnn.state.pixels && !numbacnn.state.asking && numbacnn.state.waiting === null")

    def serious(self, axe):
        """Violations that axe-core calls serious or critical."""
        self.page.evaluate(axe)
        found = self.page.evaluate("axe.run()")["violations"]
        return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


@contextmanager
def serving(*arguments):
    """Start ``numbacnn serve`` and yield its address."""
    child = process("serve", *arguments, "--port", 0)
    try:
        line = ""
        while not (found := re.search(r"http://\S+", line)):
            line = child.stderr.readline()
            assert line, "the server ended"
        yield found[0]
    finally:
        child.terminate()
        child.communicate(timeout=20)
