"""Shards: jobs that say what to write to a TFRecord file, and the function that writes it.

Each finished shard has a note, a small JSON file, so that it is not written again on resuming.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence

from data_prep.sources import Clip
from glr_jax import storage
from glr_jax.data import records
from glr_jax.data.mel import FrontEnd
from glr_jax.data.tfrecord import write_records
from glr_jax.errors import ClipError
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
    """

    fingerprint: str
    ids: list[str]
    digests: list[str]
    skipped: list[list[str]]
    num_bytes: int


def write_shard(job: ShardJob) -> Shard:
    """Writes a shard unless it is up to date; clips that fail are skipped with a reason."""
    if storage.exists(job.note) and storage.exists(job.path):
        with storage.to_read(job.note) as local, open(local) as file:
            done = Shard(**json.load(file))
        if done.fingerprint == job.fingerprint():
            return done
    ids: list[str] = []
    skipped: list[list[str]] = []
    digests: list[str] = []
    sizes: list[int] = []

    def examples() -> Iterator[bytes]:
        features = records.features(job.labels, job.n_mels, job.front_end.mel_dtype)
        for clip in job.clips:
            try:
                mel = clip.mel(job.front_end)
            except (ClipError, MemoryError) as error:
                skipped.append([clip.id, clip.path, str(error) or 'does not fit into memory'])
                continue
            example = {'id': clip.id, 'label': clip.label, 'group': clip.group, 'mel': mel}
            data = records.serialize(features, example)
            ids.append(clip.id)
            digests.append(hashlib.sha256(f'{mel.shape}'.encode() + mel.tobytes()).hexdigest())
            sizes.append(len(data))
            yield data

    write_records(job.path, examples())
    shard = Shard(job.fingerprint(), ids, digests, skipped, sum(sizes))
    with storage.to_write(job.note) as local, open(local, 'w') as file:
        json.dump(dataclasses.asdict(shard), file)
    return shard
