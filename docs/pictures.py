"""The pictures of the gallery: the figures that an example assigns to names, and those of pyplot."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def save_figures(block: tuple, variables: dict[str, Any], gallery: dict[str, Any]) -> str:
    """Save the figures that a block of an example has made; return reStructuredText that shows them."""
    named = {name: value for name, value in variables["example_globals"].items() if isinstance(value, Figure)}
    shown, paths = variables.setdefault("shown", set()), []
    for name, figure in {**named, **{f"figure {n}": plt.figure(n) for n in plt.get_fignums()}}.items():
        if id(figure) not in shown:
            shown.add(id(figure))
            path = Path(next(variables["image_path_iterator"]))
            figure.savefig(path, dpi=100)
            paths.append((str(path), name.replace("_", " ")))
    plt.close("all")
    return "".join(figure_rst([path], gallery["src_dir"], title) for path, title in paths)
