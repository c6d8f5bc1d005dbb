"""Train a model as settings say, and keep the results in a run's folder."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numbacnn import models
from numbacnn._checks import brief
from numbacnn.data.dataset import Dataset
from numbacnn.data.description import describe
from numbacnn.data.files import remove_leftovers
from numbacnn.data.labels import CLASSES, MASKS, VALUES
from numbacnn.data.remote import Progress
from numbacnn.distributed import Group
from numbacnn.engine.graph_format import DAMAGE
from numbacnn.errors import ArgumentError, DivergedError, ModelFileError, NumbacnnError
from numbacnn.logs import Log, log_of_run
from numbacnn.losses import CrossEntropy, Focal, Loss, get_loss
from numbacnn.model import READERS, Model, load
from numbacnn.runs.folder import RunFolder, model_file
from numbacnn.runs.provenance import changes, conditions, file_digests, write_provenance
from numbacnn.runs.settings import Settings, names_in, read_toml, require_data
from numbacnn.runs.small_sets import class_weights
from numbacnn.runs.targets import TargetScale
from numbacnn.saving.format import read_epoch, read_normalization, save_model
from numbacnn.training.trainer import EpochEnd, Event, Trainer

MAX_EARLIER = 8  # resumptions that a run's provenance remembers


class Run:
    """One training in its folder. The constructor loads the data and checks everything; only ``events`` writes files.

    Attributes:
        found: a line on the data: images, sizes, classes with counts.
        notes: remarks on how the data was changed when it was read, and on weights that do not fit, one line each.
        trainer: the training loop, with ``history`` and ``position``.
    """

    def __init__(
        self,
        settings: Settings,
        folder: RunFolder,
        *,
        resume: bool = False,
        progress: Progress | None = None,
        command: str = "",
        group: Group | None = None,
    ) -> None:
        self.settings, self.folder, self.group = settings, folder, group or Group()
        settings.require_storable()
        if resume:
            require_data(settings.data)
        if not self.group.is_first:
            self.group.barrier()  # rank 0 reads first, so that downloads and caches are written once
        train, validation, self.test = settings.load_data(progress)
        if self.group.is_first:
            self.group.barrier()
        splits = {"train": train, "validation": validation, "test": self.test}
        self._provenance = conditions(command, settings.table(), splits)
        resumed_with = self._compare_with_before() if resume else []
        self.found = describe({"training": train, "validation": validation, "test": self.test})
        self.notes = [note for split in splits.values() if split is not None for note in split.notes] + resumed_with
        if not settings.validation:
            validation = None
        elif validation is None:
            if not 0 < round(len(train) * settings.validation) < len(train):
                share = f"{100 * settings.validation:g} % of {len(train)} images"
                raise ArgumentError(f"{share} leave the training or the validation set empty; change --validation")
            train, validation = train.split(settings.validation, settings.seed)
        self.model: Model = models.make(
            settings.model,
            input_shape=train.images.shape[1:],
            classes=settings.classes or len(train.classes),
            seed=settings.seed,
            device=settings.device,
            precision=settings.precision,
        )
        if settings.weights is not None and not resume:  # a resumed run takes everything from its checkpoint
            self._load_weights(model_file(Path(settings.weights)))
        self._scale = TargetScale.of(train) if train.kind == VALUES else None
        if self._scale is not None:
            train, validation = self._standardized(self._scale, train, validation, resume)
        for pattern in names_in(settings.freeze):
            self.model.freeze(pattern)
        self.trainer = Trainer(
            self.model,
            train,
            optimizer=settings.make_optimizer(),
            loss=self._loss(train),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            seed=settings.seed,
            schedule=settings.make_schedule(),
            validation=validation,
            checkpoint=folder.checkpoint,
            checkpoint_every=settings.checkpoint_every,
            accumulate=settings.accumulate or 1,
            drop_last=bool(settings.drop_last),
            shards=settings.shards,
            sync_batch_norm=bool(settings.sync_batch_norm),
            communicator=self.group,
            ema=settings.ema,
            on_save_error=settings.on_save_error,
            on_nan=settings.on_nan,
            augment=settings.augment,
            metrics=settings.metric_names,
            monitor=settings.monitor,
        )
        logs = settings.log and self.group.is_first
        self._log = log_of_run(settings.log, folder.path, settings.table()) if settings.log and logs else None
        self._resumed = resume
        if resume:
            self.trainer.resume()
            self._check_best()

    def _standardized(
        self, scale: TargetScale, train: Dataset, validation: Dataset | None, resume: bool
    ) -> tuple[Dataset, Dataset | None]:
        """Return data sets with standardized numbers, and prepare the model for them."""
        if self.settings.weights is not None and not resume and self.settings.classes is None:
            scale.standardize(self.model)
        with scale.in_units(self.model):  # raises an error if the model cannot
            pass
        self.notes.append("the epochs' loss and errors are in standard deviations of the numbers; results are not")
        return scale.standardized(train), None if validation is None else scale.standardized(validation)

    def _in_units(self) -> AbstractContextManager[None]:
        """Return a context in which the model's outputs have the units of the data."""
        return nullcontext() if self._scale is None else self._scale.in_units(self.model)

    def _loss(self, train: Dataset) -> Loss | str | None:
        """Return the loss of the settings with its options, or None for that of the task."""
        name, smoothing = self.settings.class_weights or "equal", self.settings.label_smoothing
        weighted = name != "equal"
        if not (weighted or smoothing):
            return self.settings.loss
        loss = get_loss(self.settings.loss or CrossEntropy.name)
        if train.kind not in (CLASSES, MASKS):
            option = "class-weights" if weighted else "label-smoothing"
            raise ArgumentError(f"{option} works with classes and masks only; leave it out")
        if smoothing:
            if not isinstance(loss, CrossEntropy):
                raise ArgumentError(f"the loss {loss.name} takes no label smoothing; leave label-smoothing out")
            loss = replace(loss, label_smoothing=smoothing)
        if weighted:
            if not isinstance(loss, CrossEntropy | Focal):
                raise ArgumentError(f"the loss {loss.name} takes no class weights; leave class-weights out")
            weights = class_weights(train, name)
            loss = replace(loss, class_weights=[*weights, *[0.0] * (self.model.output_shape[-1] - len(weights))])
        return loss

    def _compare_with_before(self) -> list[str]:
        """Compare with the provenance of before: return a note if versions or the processor differ, and keep its words.

        Raises ArgumentError if the checksums of the data differ from those stored when the run began, or the provenance
        is damaged.
        """
        if not self.folder.provenance.is_file():
            return []
        before = read_toml(self.folder.provenance)
        try:
            for name, digest in before.get("data", {}).items():
                if self._provenance["data"].get(name) != digest:
                    raise ArgumentError(
                        f"{self.settings.data}: its {name} data differs in checksum from that of {self.folder.path}; "
                        "use the same images, labels and classes, or change --out to start another run"
                    )
            changed = changes(before, self._provenance)
            earlier = {"command": str(before["command"]), "changes_after": changed}
            self._provenance["earlier"] = [*before.get("earlier", []), earlier][-MAX_EARLIER:]
        except DAMAGE as error:
            if isinstance(error, ArgumentError):
                raise
            raise ArgumentError(f"{self.folder.provenance}: damaged ({brief(repr(error))})") from None
        bits = "; the resumed run may differ in its last bits from an uninterrupted one"
        return [f"resumed elsewhere than before: {'; '.join(changed)}{bits}"] if changed else []

    def _check_best(self) -> None:
        """Note if the best epoch's weights are lost: another epoch's, or none, are in their file."""
        best, file = self.trainer.history.best, self.folder.best
        if best is None or (self.trainer.position.step == 0 and self.trainer.history.since_best == 0):
            return  # it is about to be written
        try:
            stored = read_epoch(file) if file.is_file() else 0
        except ModelFileError:
            stored = 0
        if stored not in (None, best.epoch):
            self.trainer.unsaved.add(file)
            holds = f"has the weights of epoch {stored}" if stored else "is missing or damaged"
            self.notes.append(f"{file} {holds}; those of the best epoch, {best.epoch}, were not saved")

    def _load_weights(self, file: Path) -> None:
        """Load initial weights. If ``classes`` is given, those of another shape, the head's, are not loaded."""
        with _as_model_file(file) as stored:
            found = self.model.load_weights(stored, strict=self.settings.classes is None)
            if found.missing or found.unexpected:
                self.model.load_weights(stored)  # raises an error that names them
            self.model.normalization = read_normalization(stored)
        if found.mismatched:
            self.notes.append(
                f"{file}: {', '.join(found.mismatched)} differ in shape or type and start from new values"
            )

    def events(self) -> Iterator[Event]:
        """Train, until the last epoch or until patience runs out. The folder is up to date at every event.

        Of several ranks, rank 0 writes it.
        """
        if self.group.is_first:
            self._begin()
        trainer = self.trainer
        self._logging(lambda log: log.resume(trainer.history, trainer.position, len(trainer.loader)))
        if self._out_of_patience():
            return
        try:
            for event in trainer.run():
                if isinstance(event, EpochEnd):
                    self._save_epoch()
                self._log_event(event)
                yield event
                if isinstance(event, EpochEnd) and self._out_of_patience():
                    return
        except BaseException:  # an error, or the caller stops
            self._logging(lambda log: log.close())
            raise

    def _begin(self) -> None:
        """Take the folder of a new run, and write what is known before the training."""
        if not self._resumed:
            self.folder.claim(self.settings)
        for file in self.folder.outputs:
            remove_leftovers(file)
        if self._resumed:
            self.folder.write_config(self.settings)
        self._write_provenance(self._provenance)
        self._save_epoch()  # a killed run may have had no time for it

    def _log_event(self, event: Event) -> None:
        self._logging(lambda log: log(event))

    def _logging(self, act: Callable[[Log], None]) -> None:
        """Let the log act, if there is one; if it cannot be written, training continues without it, or stops."""
        if self._log is None:
            return
        log, path = self._log, self.folder.path / str(self.settings.log)
        with self.trainer.saving(path):
            act(log)
        if path in self.trainer.unsaved:
            self._log = None
            with suppress(OSError):
                log.close()

    def _save_epoch(self) -> None:
        history = self.trainer.history
        if not history.epochs or not self.group.is_first:
            return
        with self.trainer.saving(self.folder.metrics):
            self.folder.write_metrics(history)
        if self.trainer.position.step == 0:  # the weights are those at the end of an epoch
            self._save_model(self.folder.model)
            if history.since_best == 0:
                self._save_model(self.folder.best, history.epochs[-1].epoch)

    def _save_model(self, file: Path, epoch: int | None = None) -> None:
        """Save the model. If that fails, the previous file stays."""
        with self.trainer.saving(file), self._in_units():
            save_model(self.model, file, epoch)

    def check_saved(self) -> None:
        """Raise NumbacnnError if files of the run could not be written, or not as they are now."""
        if missing := sorted(path.name for path in self.trainer.unsaved):
            raise NumbacnnError(
                f"{self.folder.path}: {', '.join(missing)} could not be written, what was saved before is intact; "
                f"make room, then {self.folder.resume_hint}"
            )

    def _out_of_patience(self) -> bool:
        patience, waited = self.settings.patience, self.trainer.history.since_best
        return patience is not None and waited is not None and waited >= patience

    def results(self) -> dict[str, Any]:
        """Evaluate the last and the best weights on the test set; return the results as a JSON object.

        Also completes ``provenance.toml`` with these results and the checksums of the run's files.
        """
        history = self.trainer.history
        lost = self.group.any(self.folder.best in self.trainer.unsaved)  # waits until rank 0 has written the files
        best = None if lost else history.best
        found: dict[str, Any] = {
            "run": str(self.folder.path),
            "task": self.settings.task,
            "model": self.settings.model,
            "data": self.settings.data,
            "parameters": self.model.store.count,
            "epochs": [asdict(record) for record in history.epochs],
            "test": self._test(),
            "best": best
            and {
                "epoch": best.epoch,
                "validation_accuracy": best.validation_accuracy,
                "validation_score": best.score,
                "metrics": best.metrics,
                "test": self._evaluate(
                    load(
                        self.folder.best,
                        device=self.settings.device,
                        precision=self.settings.precision,
                        limits=False,
                    )
                ),
            },
        }
        scores = {name: value for name, value in found["test"].items() if name != "images"}
        with self._in_units():
            self._logging(lambda log: log.results(self.model, self.test, scores))
        self._logging(lambda log: log.close())
        measured = {"test": found["test"]} | ({"best": found["best"]["test"]} if found["best"] else {})
        files = file_digests(self.folder.outputs)
        self._write_provenance(self._provenance | {"files": files, "results": measured})
        return found

    def _write_provenance(self, provenance: dict[str, Any]) -> None:
        if not self.group.is_first:
            return
        with self.trainer.saving(self.folder.provenance):
            write_provenance(self.folder.provenance, provenance)

    def _test(self) -> dict[str, Any]:
        """Evaluate the last weights."""
        with self._in_units():
            return self._evaluate(self.model)

    def _evaluate(self, model: Model) -> dict[str, Any]:
        settings = self.settings
        found = model.evaluate(self.test, settings.loss, metrics=self.trainer.metrics, tta=settings.tta)
        if not math.isfinite(found["loss"]):
            raise DivergedError(f"the test loss is {found['loss']}")
        return {"images": len(self.test), **found}


@contextmanager
def _as_model_file(file: Path) -> Iterator[Path]:
    """Give the block a safetensors file with the weights of ``file``: that itself, or a copy of another format."""
    if file.suffix not in READERS:
        yield file
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder) / f"{file.name}.safetensors"
        load(file).save(copy)
        try:
            yield copy
        except ModelFileError as error:  # which names the copy
            raise ModelFileError(str(error).replace(str(copy), str(file))) from None
