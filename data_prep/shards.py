"""One shard of a dataset: what is to be written, and the writing.

A finished shard leaves a small note beside it, so that it is not written twice.
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
    """One shard to write."""

    path: str
    note: str
    clips: Sequence[Clip]
    labels: tuple[str, ...]
    n_mels: int
    front_end: FrontEnd

    def fingerprint(self) -> str:
        """Tells whether a note was left by this very job, of these very files."""
        clips = [[c.id, c.label, c.group, c.path, c.stamp] for c in self.clips]
        content = [clips, self.labels, self.n_mels, to_dict(self.front_end)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Shard:
    """What became of a job.

    Attributes:
      fingerprint: of the job.
      ids: of the clips written, in order.
      digests: of their spectrograms.
      skipped: `[id, path, reason]` of those that could not be.
      num_bytes: of all records.
    """

    fingerprint: str
    ids: list[str]
    digests: list[str]
    skipped: list[list[str]]
    num_bytes: int


def write_shard(job: ShardJob) -> Shard:
    """Writes one shard, unless an earlier run did; a clip that fails is skipped with a reason."""
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
                skipped.append([clip.id, clip.path, str(error) or 'is too large for memory'])
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
