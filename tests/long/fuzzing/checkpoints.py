"""Checkpoints of a training."""

import json

import numpy as np
from safetensors.numpy import load, save

import numbacnn as nc
from fuzzing.mutations import altered, edited
from numbacnn.saving.format import CHECKPOINT_FORMAT, VERSION, digest
from numbacnn.training.events import EpochEnd
from numbacnn.training.trainer import Trainer


class Checkpoint:
    """Checkpoints of a training that is then resumed: the file, or its state in a file with a valid digest."""

    error = nc.NumbacnnError

    def __init__(self, folder):
        images = np.random.default_rng(0).integers(0, 255, (16, 4, 4, 1), dtype=np.uint8)
        self.data = nc.data.Dataset.from_arrays(images, np.arange(16) % 2, ("a", "b"))
        events = self.trainer(folder / "seed").run()
        next(event for event in events if isinstance(event, EpochEnd))
        events.close()
        self.seeds = [(folder / "seed").read_bytes()]
        self.arrays = load(self.seeds[0])
        header = json.loads(self.seeds[0][8 : 8 + int.from_bytes(self.seeds[0][:8], "little")])
        self.state = json.loads(header["__metadata__"]["head"])

    def trainer(self, path):
        model = nc.Sequential([nc.Flatten(), nc.Dense(2)], (4, 4, 1))
        options = {"optimizer": nc.Adam(0.01), "epochs": 2, "batch_size": 8, "seed": 0}
        return Trainer(model, self.data, validation=self.data, checkpoint=path, **options)

    def mutate(self, content, random):
        kind = random.choice(["bytes", "state", "state", "state", "text"])
        if kind == "state":
            return self.sealed(json.dumps(altered(self.state, random)))
        if kind == "text":
            return self.sealed(edited(json.dumps(self.state).encode(), random).decode("utf-8", "replace"))
        return edited(content, random)

    def sealed(self, head):
        metadata = {"format": CHECKPOINT_FORMAT, "version": str(VERSION), "head": head}
        metadata["digest"] = digest(metadata, sorted(self.arrays.items()))
        return save(self.arrays, metadata)

    def read(self, path):
        """Resume, and train to the end without saving."""
        trainer = self.trainer(path)
        trainer.resume()
        trainer.checkpoints = None
        for _ in trainer.run():
            pass
