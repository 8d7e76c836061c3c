"""Statistics of whole clips, for the classical classifiers in `baselines`."""

import concurrent.futures
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Num

from glr_jax.data.dataset import Dataset
from glr_jax.data.mel import decode
from glr_jax.data.segments import chunks
from glr_jax.nn.config import WINDOW

MAX_FRAMES = 1292  # per clip for `statistics`: 30 s at the default front end
MAX_LENGTHS = 10_000  # clips that are read to find the median length
CLIPS_AT_A_TIME = 32

Groups = dict[str, Float[np.ndarray, 'clips _']]
GroupsOf = Callable[[Int[np.ndarray, ' clips']], Groups]


def band_statistics(mel: Num[np.ndarray, 'frames mels']) -> Float[np.ndarray, ' 5*mels']:
    """Mean, deviation, mean |difference|, 10th and 90th percentile of each band."""
    x = mel.astype(np.float32)
    change = np.abs(np.diff(x, axis=0)).mean(0) if len(x) > 1 else np.zeros(x.shape[1])
    return np.concatenate([x.mean(0), x.std(0), change, *np.percentile(x, (10, 90), axis=0)])


def all_statistics(dataset: Dataset) -> Float[np.ndarray, 'clips features']:
    """`band_statistics` of every clip."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        rows = pool.map(lambda clip: band_statistics(dataset.mel(clip)), range(len(dataset)))
        return np.stack(list(rows))


def all_groups(dataset: Dataset) -> Groups:
    """The six groups of `glr_jax.nn.statistics` of every clip."""
    return groups_on_demand(dataset)(np.arange(len(dataset)))


def groups_of(groups: Groups) -> GroupsOf:
    """A function that picks the groups of some clips from those of every clip."""
    return lambda clips: {name: values[clips] for name, values in groups.items()}


def groups_on_demand(dataset: Dataset) -> GroupsOf:
    """A function that computes the groups of some clips whenever it is called."""
    import jax  # so that whoever only reads scores does not wait for it

    from glr_jax.nn.statistics import statistics

    frames, program = clip_frames(dataset), jax.jit(statistics)
    compute = lambda mels: jax.device_get(program(mels))
    return lambda clips: _compute(compute, dataset, clips, frames)


def _compute(
    compute: Callable, dataset: Dataset, clips: Int[np.ndarray, ' clips'], frames: int
) -> Groups:
    parts = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for some in chunks(clips, CLIPS_AT_A_TIME):
            # Repeating the last clip fills the last batch, so that one program is compiled.
            filled = some + some[-1:] * (CLIPS_AT_A_TIME - len(some))
            mels = pool.map(lambda clip: of_length(decibels(dataset, clip), frames), filled)
            parts.append(compute(np.stack(list(mels))))
    return {name: np.concatenate([part[name] for part in parts])[: len(clips)] for name in parts[0]}


def clip_frames(dataset: Dataset) -> int:
    """The length that all clips get: the median of the dataset, within `WINDOW` to `MAX_FRAMES`.

    All have one length so that one program is compiled. Longer clips are cut to their middle,
    shorter ones are repeated. In a large dataset, it is the median of `MAX_LENGTHS` evenly spaced
    clips.
    """
    clips = range(0, len(dataset), -(-len(dataset) // MAX_LENGTHS))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        lengths = list(pool.map(lambda clip: len(dataset.mel(clip)), clips))
    return int(np.clip(np.median(lengths), WINDOW, MAX_FRAMES))


def decibels(dataset: Dataset, clip: int | np.integer) -> Float[np.ndarray, 'frames mels']:
    """A clip in dB above the floor if it is stored in 256 levels, else as it is stored."""
    mel, front_end = dataset.mel(clip), dataset.front_end
    if front_end.mel_dtype == 'float32':
        return mel
    return decode(mel, front_end) + np.float32(front_end.top_db)


def of_length(
    mel: Float[np.ndarray, 'frames mels'], frames: int
) -> Float[np.ndarray, '{frames} mels']:
    """The middle of a longer clip; a shorter clip repeated."""
    start = max(len(mel) - frames, 0) // 2
    return np.resize(mel[start : start + frames], (frames, mel.shape[1]))
