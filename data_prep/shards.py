"""Shards: jobs that say what to write to a TFRecord file, and the function that writes it.

Each finished shard has a note, a small JSON file, so that it is not written again on resuming.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Num

from data_prep.clips import Clip
from glr_jax import storage
from glr_jax.data import records
from glr_jax.data.mel import FrontEnd
from glr_jax.data.tfrecord import write_records
from glr_jax.errors import ClipError, UnreadableError
from glr_jax.fields import to_dict

LENGTH_TOLERANCE = 0.2  # seconds; encoders add some hundredths


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """A shard to write.

    Attributes:
      path: where to write the TFRecord file.
      note: where to write its note.
      clips: the clips to write, in order.
      labels: the class names of the dataset, in order.
      n_mels: mel bands of every spectrogram.
      front_end: how the spectrograms are computed and stored.
    """

    path: str
    note: str
    clips: Sequence[Clip]
    labels: tuple[str, ...]
    n_mels: int
    front_end: FrontEnd

    def fingerprint(self) -> str:
        """A checksum of the job and its files; a note with another one is out of date."""
        clips = [[c.id, c.label, c.group, c.path, c.stamp] for c in self.clips]
        content = [clips, self.labels, self.n_mels, to_dict(self.front_end)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished shard.

    Attributes:
      fingerprint: the job's.
      ids: the ids of the clips that were written, in order.
      digests: the checksums of their spectrograms.
      skipped: `[id, path, reason]` of each clip that was not.
      num_bytes: size of all records.
      lengths: `[id, stated, read]` in seconds, of the clips whose files state another length.
      passing: whether a clip was skipped for a reason that may pass, as a missing permission.
    """

    fingerprint: str
    ids: list[str]
    digests: list[str]
    skipped: list[list[str]]
    num_bytes: int
    lengths: list[list[Any]] = dataclasses.field(default_factory=list)
    passing: bool = False


def finished_shard(job: ShardJob) -> Shard | None:
    """What was written for a job; None if it was not, or if the job or its files changed."""
    if not storage.exists(job.note) or not storage.exists(job.path):
        return None
    try:
        with storage.to_read(job.note) as local, open(local) as file:
            done = Shard(**json.load(file))
    except (ValueError, TypeError):  # damaged, or of another version
        return None
    return done if done.fingerprint == job.fingerprint() else None


def write_shard(
    job: ShardJob,
    reading: Callable[[Clip], None] = lambda clip: None,
    lost: Collection[str] = (),
) -> Shard:
    """Writes a shard unless it is up to date; clips that fail are skipped with a reason.

    Args:
      job: what to write.
      reading: called with each clip before it is read.
      lost: ids of clips to skip, since they killed the process that read them.
    """
    done = finished_shard(job)
    if done and not done.passing:
        return done
    ids: list[str] = []
    skipped: list[list[str]] = []
    digests: list[str] = []
    sizes: list[int] = []
    lengths: list[list[Any]] = []
    passing = False

    def examples() -> Iterator[bytes]:
        nonlocal passing
        features = records.features(job.labels, job.n_mels, job.front_end.mel_dtype)
        for clip in job.clips:
            reading(clip)
            try:
                mel = _read(clip, job.front_end, lost)
            except (ClipError, MemoryError) as error:
                skipped.append([clip.id, clip.path, str(error) or 'does not fit into memory'])
                passing = passing or isinstance(error, UnreadableError)
                continue
            example = {'id': clip.id, 'label': clip.label, 'group': clip.group, 'mel': mel}
            data = records.serialize(features, example)
            ids.append(clip.id)
            digests.append(hashlib.sha256(f'{mel.shape}'.encode() + mel.tobytes()).hexdigest())
            sizes.append(len(data))
            lengths.extend(_other_length(clip, len(mel), job.front_end))
            yield data

    write_records(job.path, examples())
    shard = Shard(job.fingerprint(), ids, digests, skipped, sum(sizes), lengths, passing)
    with storage.to_write(job.note) as local, open(local, 'w') as file:
        json.dump(dataclasses.asdict(shard), file)
    return shard


def _read(clip: Clip, front_end: FrontEnd, lost: Collection[str]) -> Num[np.ndarray, 'frames mels']:
    if clip.id in lost:
        raise ClipError('killed the process that read it, probably because memory ran out')
    mel = clip.mel(front_end)
    if mel.min() == mel.max():
        raise ClipError(f'has the same value everywhere ({mel.min()})')
    return mel


def _other_length(clip: Clip, frames: int, front_end: FrontEnd) -> list[list[Any]]:
    """`[[id, stated, read]]` in seconds if they differ, else nothing."""
    stated, read = clip.stated(), frames * front_end.hop_length / front_end.sample_rate
    step = front_end.hop_length / front_end.sample_rate
    if math.isnan(stated) or abs(stated - read) <= LENGTH_TOLERANCE + step:
        return []
    return [[clip.id, round(stated, 2), round(read, 2)]]
