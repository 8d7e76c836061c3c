"""The statistics of the training clips that a classifier standardises its input by."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

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
    fronts = [front for front in (classifier.front, classifier.segment_front) if front is not None]
    if not fronts:
        return
    chosen = clips[:: -(-len(clips) // MAX_CLIPS)]
    parts = (part for clip in chosen for part in segments(dataset.mel(clip), frames))
    spread = classifier.spread()
    raw = jax.jit(lambda mel: [front.raw(mel.astype(jnp.float32), spread) for front in fronts])
    moments: Any = None
    for batch in chunks(parts, BATCH):  # a batch at a time: all segments may exceed memory
        padded = np.stack(batch + batch[:1] * (BATCH - len(batch)))
        own = functools.partial(_moments, len(batch))
        found = jax.tree.map(own, jax.device_get(raw(padded)))
        moments = found if moments is None else jax.tree.map(np.add, moments, found)
    for front, of_front in zip(fronts, moments, strict=True):
        for name, (number, total, squares) in of_front.items():
            mean = total / number
            variance = np.maximum(squares / number - mean**2, 0)
            front.means[name][...] = jnp.asarray(mean, jnp.float32)
            # A statistic that hardly varies would be noise, magnified.
            front.deviations[name][...] = jnp.asarray(np.sqrt(variance) + 1e-3, jnp.float32)


class Moments(NamedTuple):
    """Of some values: their number, their sum and the sum of their squares."""

    number: int
    total: Float[np.ndarray, ' _']
    squares: Float[np.ndarray, ' _']


def _moments(segments: int, x: Float[np.ndarray, 'padded windows values']) -> Moments:
    """The moments of each value of the first segments."""
    wide = x[:segments].reshape(-1, x.shape[-1]).astype(np.float64)
    return Moments(len(wide), wide.sum(0), np.square(wide).sum(0))
