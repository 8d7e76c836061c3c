"""Clips to a dataset folder: one shard a task, on a pool of processes.

A finished shard leaves a small note beside it, so the same command again makes only what is
missing. Which clip goes to which shard does not depend on the number of workers, nor does
a single byte of the result.
"""

import concurrent.futures
import dataclasses
import glob
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from data_prep import records, splits
from data_prep.mel import ClipError, FrontEnd
from data_prep.sources import Clip
from data_prep.tfrecord import write_records
from glr_jax.cli import UserError, to_dict

_LAST_WRITTEN = ('splits.csv', 'dataset_info.json', 'front_end.json')


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


class Summary(NamedTuple):
    """What a dataset came to: clips written per label, clips skipped, copies among the written."""

    written: Counter[str]
    skipped: int
    copies: int


def prepare(
    clips: Sequence[Clip],
    out: str,
    front_end: FrontEnd,
    *,
    num_workers: int = 1,
    clips_per_shard: int = 32,
    max_skipped: float = 0.05,
    keep_copies: bool = False,
) -> Summary:
    """Writes the dataset folder.

    Args:
      clips: in any order; they are stored sorted by id.
      out: the folder to make; an unfinished one of the same clips is gone on with.
      front_end: how samples become mels, and how mels are stored.
      num_workers: processes.
      clips_per_shard: clips in a TFRecord file.
      max_skipped: fraction of clips that may be skipped before the run counts as failed.
      keep_copies: whether clips of the very same content take part in random and group splits,
        where they may come to lie on two sides.

    Raises:
      UserError: an id twice, a label with fewer than three clips, too many clips skipped, or
        `out` holds something else.
    """
    clips = sorted(clips, key=lambda clip: clip.id)
    for one, two in itertools.pairwise(clips):
        if one.id == two.id:
            raise UserError(f'two clips have the id {one.id!r}: {one.path} and {two.path}')
    splits.check_labels([clip.label for clip in clips])
    _claim(out)
    n_mels = clips[0].n_mels or front_end.n_mels
    tasks = _tasks(clips, out, front_end, n_mels, clips_per_shard)
    shards = _run(tasks, num_workers, total=len(clips))

    copies = {} if keep_copies else _copies(shards)
    skipped = sorted(row for shard in shards for row in shard.skipped)
    left_out = [
        [
            clip.id,
            clip.path,
            f'has the content of {copies[clip.id]}; on no side but a published one',
        ]
        for clip in clips
        if clip.id in copies
    ]
    table = ('id', 'path', 'reason')
    records.write_table(os.path.join(out, 'skipped.csv'), table, sorted(skipped + left_out))
    if skipped and not len(skipped) <= max_skipped * len(clips):
        raise UserError(
            f'{len(skipped)} of {len(clips)} clips were skipped, more than --max_skipped='
            f'{max_skipped:g}; the first: {": ".join(skipped[0][1:])} '
            f'(all are in {os.path.join(out, "skipped.csv")})'
        )
    written = {id for shard in shards for id in shard.ids}
    kept = [clip for clip in clips if clip.id in written]
    splits.check_labels([clip.label for clip in kept], names=tasks[0].labels)
    records.write_table(os.path.join(out, 'splits.csv'), *_split_table(kept, copies))
    records.write_metadata(
        out,
        labels=tasks[0].labels,
        n_mels=n_mels,
        front_end=front_end,
        from_audio=not clips[0].n_mels,
        shard_lengths=[len(shard.ids) for shard in shards],
        num_bytes=sum(shard.num_bytes for shard in shards),
    )
    shutil.rmtree(_notes(out))
    return Summary(Counter(clip.label for clip in kept), len(skipped), len(copies))


def write_shard(task: Task) -> Shard:
    """Writes one shard, unless an earlier run did; a clip that fails is skipped with a reason."""
    if os.path.exists(task.note) and os.path.exists(task.path):
        with open(task.note) as file:
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
    with open(task.note + '.partial', 'w') as file:
        json.dump(dataclasses.asdict(shard), file)
    os.replace(task.note + '.partial', task.note)
    return shard


def _tasks(
    clips: Sequence[Clip], out: str, front_end: FrontEnd, n_mels: int, clips_per_shard: int
) -> list[Task]:
    labels = tuple(sorted({clip.label for clip in clips}))
    count = -(-len(clips) // clips_per_shard)
    tasks = []
    for k in range(count):
        path = records.shard_path(out, k, count)
        note = os.path.join(_notes(out), os.path.basename(path) + '.json')
        members = clips[k * clips_per_shard : (k + 1) * clips_per_shard]
        tasks.append(Task(path, note, members, labels, n_mels, front_end))
    wanted = {task.path for task in tasks}
    for path in glob.glob(os.path.join(glob.escape(out), 'clips-all.tfrecord-*')):
        if path not in wanted:  # of an earlier run with more clips, or cut off while writing
            os.remove(path)
    return tasks


def _run(tasks: Sequence[Task], num_workers: int, total: int) -> list[Shard]:
    with tqdm(total=total, unit='clip', desc='mel', dynamic_ncols=True) as bar:
        shards = []
        for task, shard in zip(tasks, _map(tasks, num_workers), strict=True):
            shards.append(shard)
            bar.update(len(task.clips))
        return shards


def one_blas_thread() -> None:
    """A worker a core is enough: BLAS threads on top would only wait for each other."""
    threadpool_limits(1, user_api='blas')


def _map(tasks: Sequence[Task], num_workers: int) -> Iterable[Shard]:
    if num_workers == 1:
        yield from map(write_shard, tasks)
        return
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__])
    try:
        with concurrent.futures.ProcessPoolExecutor(
            num_workers, mp_context=context, initializer=one_blas_thread
        ) as pool:
            yield from pool.map(write_shard, tasks)
    except BrokenProcessPool:
        raise UserError(
            'a worker was killed, most likely for want of memory; the same command with a smaller '
            f'--num_workers than {num_workers} goes on from here'
        ) from None


def _copies(shards: Sequence[Shard]) -> dict[str, str]:
    """{id of a clip: id of an earlier one with the same spectrogram}."""
    first: dict[str, str] = {}
    copies = {}
    for shard in shards:
        for id, digest in zip(shard.ids, shard.digests, strict=True):
            if first.setdefault(digest, id) != id:
                copies[id] = first[digest]
    return copies


def _split_table(
    clips: Sequence[Clip], copies: Collection[str]
) -> tuple[list[str], list[list[str]]]:
    ids, labels, groups = ([getattr(c, f) for c in clips] for f in ('id', 'label', 'group'))
    columns = splits.protocols(ids, labels, groups, left_out=copies)
    for name in sorted({name for clip in clips for name in clip.splits}):
        columns[name] = [clip.splits.get(name, '') for clip in clips]
    rows = zip(ids, labels, groups, *columns.values(), strict=True)
    return ['id', 'label', 'group', *columns], [list(row) for row in rows]


def _notes(out: str) -> str:
    return os.path.join(out, '.unfinished')


def _claim(out: str) -> None:
    """Makes the folder, or takes one that an earlier run of ours began or finished."""
    finished = all(os.path.exists(os.path.join(out, name)) for name in _LAST_WRITTEN)
    ours = os.path.isdir(_notes(out)) or finished
    if os.path.exists(out) and not ours and (not os.path.isdir(out) or os.listdir(out)):
        raise UserError(f'{out} is there and is not a dataset of ours; give another --out')
    os.makedirs(_notes(out), exist_ok=True)
    for name in _LAST_WRITTEN:  # until it is whole, it is no dataset
        if os.path.exists(os.path.join(out, name)):
            os.remove(os.path.join(out, name))
