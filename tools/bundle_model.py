"""Bundle the model of a run with ``numbacnn serve``: its weights, and a record of how they were trained.

The run's folder has the command, in provenance.toml. The images are those of a published set, also if the run read them
from a folder, so that the model knows them as strokes.

    numbacnn train --recipe mnist-best --epochs 8 --data ./mnist --out runs/mnist
    python tools/bundle_model.py runs/mnist mnist
"""

import argparse
import tomllib
from pathlib import Path

import numpy as np
import tomli_w

import numbacnn as nc
from numbacnn.runs.settings import Settings, read_config
from numbacnn.serve.strokes import StrokeForm

FOLDER = Path(nc.__file__).parent / "serve" / "models"


def main() -> None:
    """Write NAME.safetensors and NAME.toml."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    given = parser.parse_args()
    model = nc.load(given.run / "model.safetensors")
    provenance = tomllib.loads((given.run / "provenance.toml").read_text("utf-8"))
    settings = Settings.resolve(read_config(given.run / "config.toml"))
    train, _, test = settings.load_data()
    assert model.normalization is not None
    assert model.normalization.images is not None
    strokes = model.normalization.images._replace(strokes=True)
    model.normalization = model.normalization._replace(images=strokes)
    form = StrokeForm.of(np.ascontiguousarray(train.images), light=True)
    assert form is not None
    record = {
        "command": provenance["command"],
        "parameters": model.store.count,
        "training_images": len(train),
        "test": {"images": len(test), **model.evaluate(test)},
        "form": form.as_dict(),
        "data": provenance["data"],
        "versions": {name: value for name, value in provenance["versions"].items() if name != "platform"},
    }
    FOLDER.mkdir(exist_ok=True)
    model.save(FOLDER / f"{given.name}.safetensors")
    (FOLDER / f"{given.name}.toml").write_text(tomli_w.dumps(record), "utf-8")


if __name__ == "__main__":
    main()
