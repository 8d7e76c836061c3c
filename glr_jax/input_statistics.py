"""The statistics of the training clips that a classifier standardises its input by."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from glr_jax.data.dataset import Dataset, band_statistics
from glr_jax.data.segments import chunks, segments
from glr_jax.nn.model import Classifier

MAX_CLIPS = 4096  # more would not change the statistics
BATCH = 32  # segments at a time


def fit_input_statistics(
    classifier: Classifier, dataset: Dataset, clips: Int[np.ndarray, ' clips'], frames: int
) -> None:
    """Sets the classifier's `InputStatistic`s from the training clips, in place.

    Args:
      classifier: before training.
      dataset: the clips.
      clips: the training clips.
      frames: per segment.
    """
    mean, deviation = band_statistics(dataset, clips, MAX_CLIPS)
    classifier.mean[...] = jnp.asarray(mean, jnp.float32)
    classifier.deviation[...] = jnp.asarray(deviation, jnp.float32)
    front = classifier.front
    if front is None:
        return
    chosen = clips[:: -(-len(clips) // MAX_CLIPS)]
    parts = (part for clip in chosen for part in segments(dataset.mel(clip), frames))
    spread = classifier.spread()
    raw = jax.jit(lambda mel: front.raw(mel.astype(jnp.float32), spread))
    count = 0
    sums: dict[str, np.ndarray] = {}
    squares: dict[str, np.ndarray] = {}
    for batch in chunks(parts, BATCH):  # a batch at a time: all segments may exceed memory
        padded = np.stack(batch + batch[:1] * (BATCH - len(batch)))
        for name, x in jax.device_get(raw(padded)).items():
            x = x[: len(batch)].reshape(-1, x.shape[-1]).astype(np.float64)
            sums[name] = sums.get(name, np.zeros(1)) + x.sum(0)
            squares[name] = squares.get(name, np.zeros(1)) + np.square(x).sum(0)
        count += len(x)
    for name in sums:
        mean = sums[name] / count
        variance = np.maximum(squares[name] / count - mean**2, 0)
        front.means[name][...] = jnp.asarray(mean, jnp.float32)
        # A statistic that hardly varies would be noise, magnified.
        front.deviations[name][...] = jnp.asarray(np.sqrt(variance) + 1e-3, jnp.float32)
