"""Tables of metrics of a run."""

import numbacnn as nc
from fuzzing.mutations import edited
from numbacnn.runs.folder import RunFolder
from numbacnn.training.events import EpochRecord, History


class MetricsTable:
    """``metrics.csv`` of a run's folder."""

    error = nc.ModelFileError

    def __init__(self, folder):
        numbers = (1, 0.5, 0.9, 0.4, 0.8, 0.01, 2.0, 100.0)
        records = [EpochRecord(epoch, *numbers[1:], metrics={"f1": 0.5}) for epoch in (1, 2, 3)]
        self.folder = RunFolder(folder)
        self.folder.config.write_text("epochs = 3\n")
        self.folder.write_metrics(History(records))
        self.seeds = [self.folder.metrics.read_bytes()]

    def mutate(self, content, random):
        if random.random() < 0.5:
            return edited(content, random)
        cells = content.split(b",")
        for _ in range(random.randint(1, 3)):
            cells[random.randrange(len(cells))] = random.choice(
                [b"", b"nan", b"inf", b"1e400", b"9" * 5000, b"-1", b"1,", b'"', b'"\n"', b"\x00", b"epoch", b"\n"]
            )
        return b",".join(cells)

    def read(self, path):
        self.folder.metrics = path
        for record in self.folder.read_metrics().epochs:
            assert isinstance(record.epoch, int)
            assert all(isinstance(value, float) for value in record.metrics.values())
