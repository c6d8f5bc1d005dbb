"""Moving averages of the weights over the updates."""

from numbacnn._checks import number
from numbacnn.engine.parameters import Float32, Parameters
from numbacnn.losses.base import Float64


class WeightAverage:
    """The exponential moving average of the weights (after Polyak and Juditsky 1992).

    average = decay · average + (1 − decay) · weights after every update; after the first one it is the weights. The
    layers' state is averaged in the same way: running statistics belong to the activations of the weights they were
    computed with, and those of the newest weights would not fit the averaged ones.
    """

    def __init__(self, store: Parameters, decay: float) -> None:
        self._store, self.decay = store, number(decay, "ema", 0, 1, below=True)
        self.values = store.device.zeros(store.size)
        self.state = store.device.zeros(store.state.size)
        self._shown = False
        for average, newest in self._pairs():
            store.device.write(average, newest)

    def launch(self, decision: Float64) -> None:
        """Launch the update of the averages, by the share of the new weights in the ``decision`` on a step."""
        for average, newest in self._pairs():
            self._store.device.kernels.average_weights(average, newest, decision)

    def show(self, shown: bool) -> bool:
        """Swap the averages into the model, or back; return whether they were in it before."""
        before = self._shown
        if shown != before:
            for average, newest in self._pairs():
                self._store.device.kernels.swap(newest, average)
            self._store.changed()
            self._shown = shown
        return before

    def _pairs(self) -> tuple[tuple[Float32, Float32], ...]:
        """Each average with the array that it averages."""
        return (self.values, self._store.values), (self.state, self._store.state)
