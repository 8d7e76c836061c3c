"""Clips of any length to probabilities: a clip's probabilities are the mean over its segments."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float, Int, Num

from glr_jax.data.dataset import Dataset
from glr_jax.data.segments import chunks, segment_starts, segments
from glr_jax.devices import parallel, processes
from glr_jax.nn.model import Classifier, partition
from glr_jax.nn.outputs import combined, probabilities

ModelState = tuple[nnx.State, nnx.State]  # params, stats


class Output(NamedTuple):
    """What a network says about segments.

    Attributes:
      probabilities: of each label.
      embeddings: what the output layers read.
    """

    probabilities: Float[Array | np.ndarray, 'segments labels']
    embeddings: Float[Array | np.ndarray, 'segments units']


Apply = Callable[[Num[np.ndarray, 'segments frames mels']], Output]  # any number of segments


class Predictor(NamedTuple):
    """A trained network and how it cuts clips.

    Attributes:
      apply: segments to probabilities and embeddings.
      frames: per segment.
      batch_size: segments per batch, rounded up to a multiple of the local devices.
      test_crops: how many times as many segments to cut; see `segments`.
    """

    apply: Apply
    frames: int
    batch_size: int
    test_crops: int = 1


class Decisions(NamedTuple):
    """Probabilities of clips and of their segments.

    Attributes:
      clips: mean over each clip's segments.
      segments: of each segment.
      owner: the clip of each segment.
      embeddings: mean over each clip's segments.
    """

    clips: Float[np.ndarray, 'clips labels']
    segments: Float[np.ndarray, 'segments labels']
    owner: Int[np.ndarray, ' segments']
    embeddings: Float[np.ndarray, 'clips units']


def make_predict_step(
    classifier: Classifier,
) -> Callable[[Any, Num[Array, 'batch frames mels']], Output]:
    """The per-device program: (params, stats) and segments to their probabilities."""
    classifier.eval()
    graph, *_ = partition(classifier)

    def predict(state: Any, mel: Array) -> Output:
        network = nnx.merge(graph, *state)
        read = network.read(mel)
        logits = combined(network.outputs_of(read), network.multi_label)
        return Output(probabilities(logits, network.multi_label), read.embedding())

    return predict


def on_local_devices(classifier: Classifier) -> Callable[[ModelState], Apply]:
    """Makes a function of (params, stats) that returns an `Apply` on this process's devices.

    Devices exchange nothing, so processes need not have equally many clips.
    """
    mesh = parallel.make_mesh(jax.local_devices())
    program = parallel.on_every_device(make_predict_step(classifier), mesh, result='sharded')
    return lambda state: lambda mel: jax.device_get(program(state, parallel.shard_batch(mel, mesh)))


def decide(predictor: Predictor, mels: Iterable[Num[np.ndarray, '_ mels']]) -> Decisions:
    """Probabilities of clips, read one by one and computed in full batches.

    The last batch is padded and the padding dropped, so every clip counts exactly once.

    Args:
      predictor: the network.
      mels: stored spectrograms of any length, at least one.
    """
    apply, frames, batch_size, test_crops = predictor
    batch_size += -batch_size % jax.local_device_count()
    pairs = (
        (i, segment) for i, mel in enumerate(mels) for segment in segments(mel, frames, test_crops)
    )
    owners: list[int] = []
    outputs: list[Output] = []
    for chunk in chunks(pairs, batch_size):
        numbers, parts = zip(*chunk, strict=True)
        batch = np.zeros((batch_size, *parts[0].shape), parts[0].dtype)
        batch[: len(parts)] = parts
        outputs.append(Output(*(np.asarray(values)[: len(parts)] for values in apply(batch))))
        owners.extend(numbers)
    owner = np.asarray(owners)
    probabilities, embeddings = map(np.concatenate, zip(*outputs, strict=True))
    return Decisions(_means(probabilities, owner), probabilities, owner, _means(embeddings, owner))


def _means(
    values: Float[np.ndarray, 'segments _'], owner: Int[np.ndarray, ' segments']
) -> Float[np.ndarray, 'clips _']:
    """The mean over the segments of each clip."""
    sums = np.zeros((owner[-1] + 1, values.shape[1]))
    np.add.at(sums, owner, values)
    return sums / np.bincount(owner)[:, None]


def over_time(
    predictors: Sequence[Predictor], decisions: Sequence[Decisions], lengths: Sequence[int]
) -> list[tuple[Int[np.ndarray, 'segments 2'], Float[np.ndarray, 'segments labels']]]:
    """The mean of several networks' probabilities per segment of each clip.

    The segments are those of the first network; of a network that cuts clips differently, the
    nearest segments count.

    Args:
      predictors: the networks.
      decisions: of each network on the same clips.
      lengths: frames of each clip.

    Returns:
      Per clip, the first frame of each segment and the one after its last, and its probabilities.
    """
    found = []
    for clip, length in enumerate(lengths):
        spans = [_spans(length, each) for each in predictors]
        rows = [each.segments[each.owner == clip] for each in decisions]
        nearest = [_at(spans[0], *pair) for pair in zip(spans, rows, strict=True)]
        found.append((spans[0], np.mean(nearest, 0)))
    return found


def _spans(length: int, network: Predictor) -> Int[np.ndarray, 'segments 2']:
    """The first frame of each segment of a clip, and the one after its last."""
    starts = segment_starts(length, network.frames, network.test_crops)
    return np.stack([starts, np.minimum(starts + network.frames, length)], 1)


def _at(
    wanted: Int[np.ndarray, 'segments 2'],
    spans: Int[np.ndarray, 'own_segments 2'],
    rows: Float[np.ndarray, 'own_segments labels'],
) -> Float[np.ndarray, 'segments labels']:
    """The rows of the segments nearest to others."""
    return rows[np.abs(wanted.sum(1)[:, None] - spans.sum(1)).argmin(1)]


def decide_clips(
    predictor: Predictor,
    dataset: Dataset,
    clips: Int[np.ndarray, ' clips'],
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[Float[np.ndarray, 'clips labels'], float]:
    """Probabilities of clips of a dataset, shared out to the processes.

    Args:
      predictor: the network.
      dataset: where the clips are.
      clips: their numbers.
      advance: called with the number of clips that all processes have read since.

    Returns:
      Probabilities in the order of `clips`, and the accuracy of single segments; where clips have
      several labels, the share of labels that are decided right at 0.5.
    """
    count, process = jax.process_count(), jax.process_index()
    mine = clips[process::count]
    rows = np.zeros((-(-len(clips) // count), len(dataset.labels)))
    right_and_all = np.zeros(2)
    if len(mine):

        def mels() -> Iterator[Num[np.ndarray, '_ mels']]:
            for clip in mine:
                yield dataset.mel(clip)
                advance(count)

        decisions = decide(predictor, mels())
        rows[: len(mine)] = decisions.clips
        targets = dataset.targets[mine][decisions.owner]
        if dataset.multi_label:
            right = (decisions.segments >= 0.5) == targets
        else:
            right = decisions.segments.argmax(1) == targets
        right_and_all[:] = right.sum(), right.size
    rows = processes.gather(rows).swapaxes(0, 1).reshape(-1, len(dataset.labels))
    right_and_all = processes.gather(right_and_all).sum(0)
    return rows[: len(clips)], float(right_and_all[0] / right_and_all[1])
