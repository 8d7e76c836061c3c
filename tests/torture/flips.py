"""Single flipped bits in every kind of file that is written and read again.

A flip must be noticed in one line that names the file or its folder, or be without effect. In
`config.json` and `splits.csv`, which people edit, it may also give another valid value.
"""

import contextlib
import dataclasses
import io
import os
import random
import resource
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from data_prep import replace, shards
from glr_jax import report
from glr_jax.cli import status
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.devices import compile_cache, parallel
from glr_jax.errors import UserError
from glr_jax.run import checkpoint, intact, training_data, workdir
from tests.torture import commands
from tests.torture.outcomes import Row, is_one_line


class Kind(NamedTuple):
    """Files of one kind.

    Attributes:
      name: for the table.
      files: their paths.
      read: reads them, and everything that depends on them.
      share: of all flips.
      edited: whether people edit them.
    """

    name: str
    files: list[Path]
    read: Callable[[], Any]
    share: float
    edited: bool = False


def flip_all(folder: str, count: int, seed: int) -> list[Row]:
    """About `count` flips, all in one child."""
    data = commands.prepared(folder)
    commands.trained(folder)
    source = commands.write_arrays(os.path.join(folder, 'other.npz'), seed=1)
    swap, part = os.path.join(folder, 'swap'), os.path.join(folder, 'notes')
    shutil.copytree(data, swap)
    commands.run('data_prep', commands.preparing(source, os.path.join(swap, '.next')))
    commands.run('data_prep', commands.preparing(source, part, '--shard_range=0:3'))
    body = lambda: [dataclasses.asdict(row) for row in _flip(Path(folder), count, seed)]
    ended = commands.in_child(body, longest=3600)
    if ended.value is None:
        raise RuntimeError(f'the process died: {ended.said}')
    os.write(2, ended.said.encode())
    return [Row(**values) for values in ended.value]


def _flip(folder: Path, count: int, seed: int) -> list[Row]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    intact.time = types.SimpleNamespace(sleep=lambda _: None)  # type: ignore[assignment]
    draw, rows = random.Random(seed), []
    for kind in _kinds(folder):
        row, expected = Row(f'flip: {kind.name}'), _value(kind.read)[0]
        sizes = [path.stat().st_size for path in kind.files]
        for k in range(max(1, round(kind.share * count))):
            # Each file at least once, then by size: large ones have most of the bits.
            many = k < len(kind.files)
            path = kind.files[k] if many else draw.choices(kind.files, sizes)[0]
            if path.stat().st_size:
                _one(row, kind, path, draw, expected, folder)
        rows.append(row)
    return rows


def _one(
    row: Row, kind: Kind, path: Path, draw: random.Random, expected: Any, folder: Path
) -> None:
    original = path.read_bytes()
    place, bit = draw.randrange(len(original)), draw.randrange(8)
    flipped = bytearray(original)
    flipped[place] ^= 1 << bit
    path.write_bytes(flipped)
    row.tried += 1
    where = f'bit {bit} of byte {place} of {path}'
    try:
        found, lines = _value(kind.read)
        if found == expected or lines:
            return
        if kind.edited:
            row.edited += 1
        else:
            row.fails('silent', where)
    except UserError as error:
        if not is_one_line(str(error)) or not _names(str(error), path, folder):
            row.fails('tracebacks', f'{where}: {error!r}')
    except Exception as error:
        row.fails('tracebacks', f'{where}: {type(error).__name__}: {error}')
    finally:
        path.write_bytes(original)


def _names(message: str, path: Path, folder: Path) -> bool:
    """Whether a message names a file, or the dataset or run that it is a part of."""
    around = (path, *(each for each in path.parents if folder in each.parents))
    return any(str(each) in message for each in around)


def _value(read: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What is read, and the lines that were said meanwhile."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        value = read()
    return value, said.getvalue().splitlines()


def _kinds(folder: Path) -> list[Kind]:
    data, run = folder / 'data', folder / 'run'
    files = lambda place, pattern: sorted(p for p in place.rglob(pattern) if p.is_file())
    text = ('features.json', 'dataset_info.json', 'front_end.json', 'label.labels.txt')
    cache = Path(os.environ['JAX_COMPILATION_CACHE_DIR'])
    (note, *_), swap = files(folder / 'notes' / '.unfinished', '*.json'), folder / 'swap'
    return [
        Kind('records', files(data, '*tfrecord*'), lambda: _dataset(data), 0.15),
        Kind('dataset metadata', [data / name for name in text], lambda: _dataset(data), 0.15),
        Kind('splits.csv', [data / 'splits.csv'], lambda: _dataset(data), 0.08, edited=True),
        Kind('checkpoints', files(run / 'checkpoints', '*'), _checkpoints(run), 0.3),
        Kind('config.json', [run / 'config.json'], _config(run), 0.05, edited=True),
        Kind('data.json', [run / 'data.json'], _data(run, data), 0.06),
        Kind('metrics.jsonl', [run / 'metrics.jsonl'], lambda: _log(run), 0.05),
        Kind(
            'report',
            [run / 'report' / 'metrics.json', run / 'report' / 'baselines.json'],
            _report(run),
            0.06,
        ),
        Kind('compile cache', files(cache, '*-glr-cache')[:20], _cache(cache), 0.05),
        Kind('notes of data_prep', [note], _note(note), 0.03),
        Kind('finished successor', [swap / '.next' / replace._BUILT], _swap(swap), 0.02),
    ]


def _dataset(folder: Path) -> Any:
    dataset = open_dataset(str(folder))
    try:
        mels = [dataset.mel(clip).tobytes() for clip in range(len(dataset))]
        plain = (dataset.ids, dataset.labels, dataset.targets.tolist(), dataset.splits)
        return *plain, dataset.front_end, dataset.from_audio, dataset.n_mels, mels
    finally:
        _close(dataset)


def _close(dataset: Dataset) -> None:
    for file in dataset._files:
        file.close()


def _checkpoints(run: Path) -> Callable[[], Any]:
    import jax

    from glr_jax import train_step
    from glr_jax.nn.model import make_classifier
    from glr_jax.optimizer import make_optimizer

    mesh, config = parallel.make_mesh(jax.devices()[:1]), workdir.read_config(str(run))
    classifier = make_classifier(config.model, n_mels=8, num_labels=3, seed=1)
    optimizer = make_optimizer(config.train, steps=9)
    blank = train_step.init_state(classifier, optimizer, averaged=config.train.average > 0)
    state = parallel.replicate(blank, mesh)

    def arrays(tree: Any) -> dict[str, str]:
        return intact.checksums({'x': tree})

    whole = {step: _arrays_of(run, step, state) for step in intact.steps(str(run / 'checkpoints'))}

    def read() -> Any:
        """Whether the weights of the steps that are used are those that were saved."""
        try:
            best = checkpoint.restore_best(str(run), mesh)
            with checkpoint.open_manager(str(run)) as manager:
                latest = checkpoint.restore_latest(manager, state, mesh)
            used = [
                (best.step, {'params': best.state[0], 'stats': best.state[1]}),
                (int(latest.step), checkpoint._model(latest)),
            ]
            if any(arrays(tree) != whole[step] for step, tree in used):
                raise AssertionError('other weights')
            return [step for step, _ in used]
        finally:
            for moved in (run / 'damaged').glob('*'):
                shutil.move(moved, run / 'checkpoints' / moved.name)

    return read


def _arrays_of(run: Path, step: int, state: Any) -> dict[str, str]:
    folder = str(run / 'checkpoints')
    meta = intact.read_meta(folder, step)
    found = intact.read_arrays(folder, step, 'model', checkpoint._model(state), meta)
    return intact.checksums({'x': found})


def _config(run: Path) -> Callable[[], Any]:
    config = workdir.read_config(str(run))

    def read() -> Config:
        workdir.claim(config, devices=1)  # the same command again
        return workdir.read_config(str(run))

    return read


def _data(run: Path, data: Path) -> Callable[[], Any]:
    """As in a run that started from another one: some clips were seen there."""
    dataset = open_dataset(str(data))
    clips = training_data.clips_of(dataset, 'random-1')
    training_data._write(str(run), training_data.Record(clips, [['a clip', 5, '']], [], []))
    content = (run / 'data.json').read_bytes()  # with a clip of the other run

    def read() -> Any:
        try:
            changes = training_data.check(str(run), dataset, clips, clips.digest)
            known = training_data.read(str(run))
            return changes, known and known.trained()
        finally:
            (run / 'data.json').write_bytes(content)

    return read


def _log(run: Path) -> Any:
    rows, damaged = workdir.read_log(str(run))
    if damaged:
        status('a damaged line')  # as the log and the page say
    names = (*workdir._LOGGED, 'validation_macro_f1', 'clips_per_second', 'seconds')
    return [[row.get(name) for name in names] for row in rows]


def _report(run: Path) -> Callable[[], Any]:
    scores = report.read(str(run))
    floor = report.read_floor(str(run), scores)

    def read() -> Any:
        found = report.read(str(run))
        # A flip in the word `checksum` itself leaves a key that nothing reads. Scores of the
        # baselines that are damaged are computed again, which gives the same.
        return {name: found.get(name) for name in scores}, report.read_floor(
            str(run), found
        ) or floor

    return read


def _cache(folder: Path) -> Callable[[], Any]:
    entries = {
        path.name.removesuffix(compile_cache.SUFFIX): path.read_bytes()
        for path in sorted(folder.glob(f'*{compile_cache.SUFFIX}'))[:20]
    }

    def read() -> Any:
        """An entry is as it was written, or is missing and the program is compiled."""
        cache = compile_cache.WholeCache(str(folder))
        found = {name: cache.get(name) for name in entries}
        wrong = [n for n, value in found.items() if value and value != entries[n][: len(value)]]
        for name, content in entries.items():
            (folder / f'{name}{compile_cache.SUFFIX}').write_bytes(content)
        return wrong

    return read


def _note(path: Path) -> Callable[[], Any]:
    """A note that is damaged is as if there were none: the shard is written again."""
    note = shards.read_note(str(path))
    return lambda: shards.read_note(str(path)) or note


def _swap(base: Path) -> Callable[[], Any]:
    """A kill came when the successor of a dataset was finished, but not in its place yet."""
    names = sorted(os.listdir(base / '.next'), key=lambda name: name == 'front_end.json')
    with mock.patch.object(replace, 'resume_swap'):
        replace.swap(str(base), names)

    def read() -> Any:
        now = commands.fresh(f'{base}-now', str(base))
        replace.resume_swap(now)
        return commands.files_of(now)

    return read
