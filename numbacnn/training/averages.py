"""Arenas beside a model's own: gradients summed over several batches, and weights averaged over the updates."""

from numbacnn._checks import number
from numbacnn.engine.parameters import Float32, Parameters


class GradientMean:
    """The mean gradient over the images of several batches, as one batch of all of them would have it."""

    def __init__(self, store: Parameters) -> None:
        self._store = store
        self.arena = store.device.zeros(store.size)
        self.images = 0  # whose gradients are summed in the arena

    def add(self, images: int) -> None:
        """Adds the gradients of a batch, each the mean over its ``images``, weighted by their number."""
        kernels, gradients = self._store.device.kernels, self._store.gradients
        if self.images:
            kernels.blend_in_place(self.arena, gradients, 1.0, images)
        else:
            kernels.blend(self.arena, gradients, gradients, images, 0.0)
        self.images += images

    def finish(self, images: int) -> None:
        """Turns the gradients of the last batch into the mean over all of them, and begins anew; of 0 images: that of
        those before, whatever the gradients are, NaN too."""
        kernels, gradients = self._store.device.kernels, self._store.gradients
        if self.images and not images:
            kernels.blend(gradients, self.arena, self.arena, 1 / self.images, 0.0)
        elif self.images:
            total = self.images + images
            kernels.blend_in_place(gradients, self.arena, images / total, 1 / total)
        self.images = 0


class WeightAverage:
    """The exponential moving average of the weights (Polyak and Juditsky 1992; as an average that forgets).

    average = decay · average + (1 − decay) · weights after every update; after the first one it is the weights. The
    layers' state is averaged alike: running statistics are of the activations of the weights they came with, and those
    of the newest weights would not fit the averaged ones.
    """

    def __init__(self, store: Parameters, decay: float) -> None:
        self._store, self.decay = store, number(decay, "ema", 0, 1, below=True)
        self.values = store.device.zeros(store.size)
        self.state = store.device.zeros(store.state.size)
        self._shown = False
        self.update(first=True)

    def update(self, first: bool) -> None:
        """After an update of the weights."""
        device = self._store.device
        for average, newest in self.pairs():
            if first:
                device.write(average, newest)
            else:
                device.kernels.approach_in_place(average, newest, 1 - self.decay)

    def show(self, shown: bool) -> bool:
        """Has the model hold the averages, and the arenas its weights and state; or back. Returns how it was before."""
        before = self._shown
        if shown != before:
            for average, newest in self.pairs():
                self._store.device.kernels.swap(newest, average)
            self._store.changed()
            self._shown = shown
        return before

    def pairs(self) -> tuple[tuple[Float32, Float32], ...]:
        """Each average and what it is of."""
        return (self.values, self._store.values), (self.state, self._store.state)
