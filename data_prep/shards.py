"""Shards: jobs that say what to write to a TFRecord file, and the function that writes it.

Each finished shard has a note, a small JSON file, so that it is not written again on resuming.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Num

from data_prep import reuse
from data_prep.clips import Clip, fetched
from glr_jax import json_files, storage
from glr_jax.data import records
from glr_jax.data.example import spectrogram_digest
from glr_jax.data.lengths import differing
from glr_jax.data.mel import FrontEnd
from glr_jax.data.tfrecord import write_records
from glr_jax.errors import ClipError, UnreadableError
from glr_jax.fields import to_dict


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
      kept: path of the index of earlier spectrograms, see `reuse`; '' = there are none.
    """

    path: str
    note: str
    clips: Sequence[Clip]
    labels: tuple[str, ...]
    n_mels: int
    front_end: FrontEnd
    kept: str = ''

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
      contents: for each clip, what its spectrogram is computed from, see `reuse.content_of`.
      reused: how many of the spectrograms were not computed again.
    """

    fingerprint: str
    ids: list[str]
    digests: list[str]
    skipped: list[list[str]]
    num_bytes: int
    lengths: list[list[Any]] = dataclasses.field(default_factory=list)
    passing: bool = False
    contents: list[str] = dataclasses.field(default_factory=list)
    reused: int = 0


def read_note(path: str) -> Shard | None:
    """What a note says; None if it is missing, damaged or of another version."""
    try:
        with storage.to_read(path) as local, open(local) as file:
            values = json.load(file)
        if not isinstance(values, dict) or not json_files.is_intact(values):
            return None
        values.pop(json_files.CHECKSUM, None)
        return Shard(**values)
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return None


def finished_shard(job: ShardJob) -> Shard | None:
    """What was written for a job; None if it was not, or if the job or its files changed."""
    if not storage.exists(job.note) or not storage.exists(job.path):
        return None
    done = read_note(job.note)
    return done if done and done.fingerprint == job.fingerprint() else None


def finished_shards(jobs: Sequence[ShardJob]) -> dict[str, Shard]:
    """{path: shard} of jobs that are done; none in an object store, where each look takes long."""
    if not jobs or storage.is_remote(jobs[0].path):
        return {}
    found = {job.path: finished_shard(job) for job in jobs}
    return {path: shard for path, shard in found.items() if shard and not shard.passing}


def set_aside(notes: str, jobs: Sequence[ShardJob]) -> list[reuse.Kept]:
    """Moves shards that these jobs would replace or drop out of the way.

    Args:
      notes: the folder of the notes.
      jobs: of the dataset; finished ones stay.

    Returns:
      The spectrograms in the shards that are aside; none in an object store.
    """
    if storage.is_remote(notes):
        return []
    finished = {f'{os.path.basename(path)}.json' for path in finished_shards(jobs)}
    aside = os.path.join(notes, 'earlier')
    os.makedirs(aside, exist_ok=True)
    for name in set(os.listdir(notes)) - finished:
        shard = os.path.join(os.path.dirname(notes), name.removesuffix('.json'))
        if name.endswith('.json') and os.path.exists(shard):
            place = os.path.join(aside, str(len(os.listdir(aside))))
            os.mkdir(place)
            os.replace(shard, os.path.join(place, 'shard'))
            os.replace(os.path.join(notes, name), os.path.join(place, 'note'))
    kept = []
    for place in (os.path.join(aside, name) for name in os.listdir(aside)):
        note = read_note(os.path.join(place, 'note'))
        if note:
            for number, pair in enumerate(zip(note.contents, note.digests, strict=False)):
                kept.append(reuse.Kept(*pair, os.path.join(place, 'shard'), number))
    return kept


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
        return dataclasses.replace(done, reused=len(done.ids))
    ids: list[str] = []
    skipped: list[list[str]] = []
    digests: list[str] = []
    sizes: list[int] = []
    lengths: list[list[Any]] = []
    contents: list[str] = []
    passing, reused = False, 0

    def examples() -> Iterator[bytes]:
        nonlocal passing, reused
        several = job.clips[0].multi_label
        features = records.features(job.labels, job.n_mels, job.front_end.mel_dtype, several)
        for clip in job.clips:
            reading(clip)
            try:
                content, mel, kept = _read(clip, job, lost)
            except (ClipError, MemoryError) as error:
                skipped.append([clip.id, clip.path, str(error) or 'does not fit into memory'])
                passing = passing or isinstance(error, UnreadableError)
                continue
            example = {'id': clip.id, 'group': clip.group, 'mel': mel}
            example |= {'labels': list(clip.labels)} if several else {'label': clip.label}
            data = records.serialize(features, example)
            ids.append(clip.id)
            digests.append(spectrogram_digest(mel))
            contents.append(content)
            reused += kept
            sizes.append(len(data))
            lengths.extend(_other_length(clip, len(mel), job.front_end))
            yield data

    write_records(job.path, examples())
    shard = Shard(job.fingerprint(), ids, digests, skipped, sum(sizes), lengths, passing)
    shard = dataclasses.replace(shard, contents=contents, reused=reused)
    with storage.to_write(job.note) as local, open(local, 'w') as file:
        json.dump(json_files.sealed(dataclasses.asdict(shard)), file)
    return shard


def _read(
    clip: Clip, job: ShardJob, lost: Collection[str]
) -> tuple[str, Num[np.ndarray, 'frames mels'], bool]:
    """What a spectrogram is computed from, the spectrogram, and whether it was kept from before."""
    if clip.id in lost:
        raise ClipError('killed the process that read it, probably because memory ran out')
    with fetched(clip) as local:
        content = reuse.content_of(local.file, job.front_end)
        kept = None
        if content and job.kept:
            kept = reuse.find(job.kept, content, job.n_mels, job.front_end.mel_dtype)
        mel = local.mel(job.front_end) if kept is None else kept
    if mel.min() == mel.max():
        raise ClipError(f'has the same value everywhere ({mel.min()})')
    return content, mel, kept is not None


def _other_length(clip: Clip, frames: int, front_end: FrontEnd) -> list[list[Any]]:
    """`[[id, stated, read]]` in seconds if they differ, else nothing."""
    found = differing(clip.stated(), frames, front_end)
    return [[clip.id, *(round(seconds, 2) for seconds in found)]] if found else []
