"""One shard of a dataset: what is to be written, and the writing.

A finished shard leaves a small note beside it, so that it is not written twice.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence

from data_prep import records, storage
from data_prep.mel import ClipError, FrontEnd
from data_prep.sources import Clip
from data_prep.tfrecord import write_records
from glr_jax.cli import to_dict


@dataclasses.dataclass(frozen=True)
class Task:
    """One shard to write."""

    path: str
    note: str
    clips: Sequence[Clip]
    labels: tuple[str, ...]
    n_mels: int
    front_end: FrontEnd

    def fingerprint(self) -> str:
        """Tells whether a note was left by this very task, of these very files."""
        clips = [[c.id, c.label, c.group, c.path, c.stamp] for c in self.clips]
        content = [clips, self.labels, self.n_mels, to_dict(self.front_end)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Shard:
    """What became of a task.

    Attributes:
      fingerprint: of the task.
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


def write_shard(task: Task) -> Shard:
    """Writes one shard, unless an earlier run did; a clip that fails is skipped with a reason."""
    if storage.exists(task.note) and storage.exists(task.path):
        with storage.to_read(task.note) as local, open(local) as file:
            done = Shard(**json.load(file))
        if done.fingerprint == task.fingerprint():
            return done
    ids: list[str] = []
    skipped: list[list[str]] = []
    digests: list[str] = []
    sizes: list[int] = []

    def examples() -> Iterator[bytes]:
        features = records.features(task.labels, task.n_mels, task.front_end.mel_dtype)
        for clip in task.clips:
            try:
                mel = clip.mel(task.front_end)
            except (ClipError, MemoryError) as error:
                skipped.append([clip.id, clip.path, str(error) or 'is too large for memory'])
                continue
            example = {'id': clip.id, 'label': clip.label, 'group': clip.group, 'mel': mel}
            data = records.serialize(features, example)
            ids.append(clip.id)
            digests.append(hashlib.sha256(f'{mel.shape}'.encode() + mel.tobytes()).hexdigest())
            sizes.append(len(data))
            yield data

    write_records(task.path, examples())
    shard = Shard(task.fingerprint(), ids, digests, skipped, sum(sizes))
    with storage.to_write(task.note) as local, open(local, 'w') as file:
        json.dump(dataclasses.asdict(shard), file)
    return shard
