"""A model at work in the browser: a page to draw on with a JSON API, a training's dashboard, and pages for export.

The server needs the extra ``serve`` (``pip install 'numbacnn[serve]'``), which is imported when one is started; the
exported page needs nothing. The pages are in the folder ``page``: hand-written, and loading nothing from elsewhere.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numbacnn.serve.app import make_app
    from numbacnn.serve.dashboard import Dashboard
    from numbacnn.serve.export import export_page
    from numbacnn.serve.security import LOOPBACK
    from numbacnn.serve.server import Server, run_server

__all__ = ["LOOPBACK", "Dashboard", "Server", "export_page", "make_app", "run_server"]

_MODULES = {  # imported at the first use of a name, so that other commands start without them
    "LOOPBACK": "security",
    "Dashboard": "dashboard",
    "Server": "server",
    "export_page": "export",
    "make_app": "app",
    "run_server": "server",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
