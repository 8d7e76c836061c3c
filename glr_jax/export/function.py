"""What is exported: a pure function from a batch of clips to probabilities and embeddings."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from glr_jax.data.front_end import FrontEnd
from glr_jax.data.segments import segment_starts
from glr_jax.errors import UserError
from glr_jax.export.front_end import count_frames, stored_mel
from glr_jax.inference import Output, make_predict_step
from glr_jax.nn.model import make_classifier
from glr_jax.run.checkpoint import Best

Function = Callable[[Any], Output]


@dataclasses.dataclass(frozen=True)
class Signature:
    """What goes into an exported function.

    Attributes:
      from_audio: whether samples go in, rather than spectrograms as they are stored.
      shape: of one clip.
      dtype: of its values.
      samples: per clip; 0 if the run was trained on ready-made spectrograms.
      seconds: per clip, likewise.
    """

    from_audio: bool
    shape: tuple[int, ...]
    dtype: str
    samples: int
    seconds: float

    def struct(self, batch: Any) -> jax.ShapeDtypeStruct:
        """A batch of clips without their values."""
        return jax.ShapeDtypeStruct((batch, *self.shape), np.dtype(self.dtype))


def make_signature(runs: Sequence[Best], from_audio: bool, seconds: float) -> Signature:
    """The signature for clips of some length.

    Args:
      runs: with the same labels and front end.
      from_audio: whether samples go in.
      seconds: per clip; 0: one segment of the first run.

    Raises:
      UserError: there are no samples for ready-made spectrograms, or the clip is too short.
    """
    meta = runs[0].meta
    front_end, frames = meta.front_end, meta.config.data.frames
    if from_audio and not meta.from_audio:
        raise UserError(
            f'{runs[0].workdir} was trained on ready-made spectrograms, so nothing is known of '
            'their audio; leave out --from_audio'
        )
    samples = round(seconds * front_end.sample_rate) or _samples_of(frames, front_end)
    if samples < front_end.n_fft:
        shortest = front_end.n_fft / front_end.sample_rate
        raise UserError(f'--seconds={seconds} is too short: a window has {shortest:.3f} seconds')
    frames = count_frames(samples, front_end)
    length = samples / front_end.sample_rate
    if not meta.from_audio:
        samples, length = 0, 0.0
    if from_audio:
        return Signature(True, (samples,), 'float32', samples, length)
    return Signature(False, (frames, meta.n_mels), front_end.mel_dtype, samples, length)


def _samples_of(frames: int, front_end: FrontEnd) -> int:
    """The smallest number of samples, at least one window, that gives as many frames."""
    odd = front_end.n_fft % 2
    return max((frames - 1) * front_end.hop_length + odd, front_end.n_fft)


def make_function(runs: Sequence[Best], signature: Signature) -> Function:
    """The function of a batch of clips; it holds the weights.

    Clips are cut into segments as in prediction, and the probabilities of all segments, and of all
    runs, are averaged.
    """
    networks = [_network(run) for run in runs]
    front_end = runs[0].meta.front_end

    def function(clips: Array) -> Output:
        mel = stored_mel(clips, front_end) if signature.from_audio else clips
        outputs = [
            _of_clips(network, mel.astype(jnp.float32), frames, crops)
            for network, frames, crops in networks
        ]
        probabilities = jnp.mean(jnp.stack([each.probabilities for each in outputs]), 0)
        return Output(probabilities, jnp.concatenate([x.embeddings for x in outputs], -1))

    return function


def _network(run: Best) -> tuple[Function, int, int]:
    """A run's network, its frames per segment, and its crops.

    The recurrence is computed step by step, since a GPU kernel would bind the file to that GPU.
    """
    meta, config = run.meta, run.meta.config
    model = dataclasses.replace(config.model, recurrence='scan')
    classifier = make_classifier(
        model,
        n_mels=meta.n_mels,
        num_labels=len(meta.labels),
        seed=0,
        multi_label=meta.multi_label,
    )
    state = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), run.state)  # on one device
    predict = make_predict_step(classifier)
    return lambda mel: predict(state, mel), config.data.frames, config.data.test_crops


def _of_clips(network: Function, mel: Array, frames: int, test_crops: int) -> Output:
    """The mean over the segments of each clip."""
    batch, length, mels = mel.shape
    if length < frames:
        mel = jnp.concatenate([mel] * -(-frames // length), 1)[:, :frames]
    starts = segment_starts(length, frames, test_crops)
    segments = jnp.stack([mel[:, start : start + frames] for start in starts], 1)
    output = network(segments.reshape(batch * len(starts), frames, mels))
    each = [x.reshape(batch, len(starts), x.shape[-1]).mean(1) for x in output]
    return Output(*each)
