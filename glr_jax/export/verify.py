"""Whether an exported file gives the checkpoint's probabilities."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from glr_jax import inference
from glr_jax.data.audio import load_audio
from glr_jax.data.front_end import FrontEnd
from glr_jax.data.mel import mel_of_samples
from glr_jax.errors import ClipError, UserError
from glr_jax.export.function import Signature
from glr_jax.run.checkpoint import Best
from glr_jax.trained import predictor

CLIPS = 3  # of noise and tones, if no files are given
Call = Callable[[np.ndarray], Sequence[np.ndarray]]


def audio_clips(
    files: Sequence[str], samples: int, front_end: FrontEnd
) -> Float[np.ndarray, 'clips samples']:
    """Clips of one length: the beginnings of files, or tones in noise that grows louder.

    Raises:
      UserError: a file cannot be read.
    """
    if not files:
        rng, t = np.random.default_rng(0), np.arange(samples) / front_end.sample_rate
        hertz = np.geomspace(110, front_end.sample_rate / 6, CLIPS)[:, None]
        noise = 0.1 * rng.standard_normal((CLIPS, samples)) * np.linspace(0, 1, samples)
        return (0.3 * np.sin(2 * np.pi * hertz * t) + noise).astype(np.float32)
    clips = []
    for path in files:
        try:
            clips.append(np.resize(load_audio(path, front_end.sample_rate), samples))
        except ClipError as error:
            raise UserError(f'{path} {error}') from None
    return np.stack(clips)


def inputs_and_probabilities(
    runs: Sequence[Best], signature: Signature, files: Sequence[str]
) -> tuple[np.ndarray, Float[np.ndarray, 'clips labels']]:
    """What goes into an exported function, and what the checkpoints themselves make of it.

    The checkpoints see spectrograms by `data.mel`, as in prediction.
    """
    meta = runs[0].meta
    if meta.from_audio:
        samples = audio_clips(files, signature.samples, meta.front_end)
        mels = [mel_of_samples(clip, meta.front_end) for clip in samples]
    else:
        rng = np.random.default_rng(0)
        mels = list(rng.integers(0, 255, (CLIPS, *signature.shape)).astype(signature.dtype))
    clips = samples if signature.from_audio else np.stack(mels)
    decided = [inference.decide(predictor(run), mels).clips for run in runs]
    return clips, np.mean(decided, 0)


def largest_difference(
    call: Call, clips: np.ndarray, probabilities: Float[np.ndarray, 'clips labels'], batch: int
) -> float:
    """How far the probabilities of an exported function are from those of the checkpoints.

    Args:
      call: the exported function.
      clips: its inputs.
      probabilities: of the checkpoints.
      batch: clips per call; 0: all of them at once, and then the first one alone.
    """
    if not batch:
        found, alone = call(clips)[0], call(clips[:1])[0]
        probabilities = np.concatenate([probabilities, probabilities[:1]])
        return float(np.abs(np.concatenate([found, alone]) - probabilities).max())
    differences = []
    for first in range(0, len(clips), batch):
        some = clips[first : first + batch]
        padded = np.concatenate([some, np.repeat(some[:1], batch - len(some), 0)])
        found = call(padded)[0][: len(some)]
        differences.append(np.abs(found - probabilities[first : first + batch]).max())
    return float(max(differences))
