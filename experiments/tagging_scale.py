"""How fast many labels and many clips are: preparation, splits, an epoch of training, scores.

`python -m experiments.tagging_scale`
"""

import dataclasses

from experiments import common
from glr_jax import cli
from glr_jax.fields import option

USAGE = """
usage: python -m experiments.tagging_scale [--clips=N] [--labels=N] [--flag=value ...]

Makes short spectrograms of noise with a pair of louder bands for each label. The rarest label is on
0.2 % of the clips, the most frequent one on 30 %. Prepares them, trains the default network, and
prints what takes how long.
"""
FRAMES, BANDS = 128, 64
RAREST, MOST = 0.002, 0.3
SPLIT = 'random-1'


@dataclasses.dataclass(frozen=True)
class TaggingScale:
    """The flags."""

    clips: int = option(20_000, 'number of clips', minimum=100)
    labels: int = option(200, 'number of labels', minimum=2)
    epochs: int = option(1, 'epochs of training', minimum=1)
    out: str = option('', 'JSON file to write the measurements to', is_path=True)


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(TaggingScale, USAGE)

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from data_prep import splits
from glr_jax import json_files, scoring, tag_metrics, trained
from glr_jax.cli import status
from glr_jax.data.dataset import Dataset, open_dataset


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(TaggingScale, argv, USAGE)
    common.make_folder_of(study.out)
    with tempfile.TemporaryDirectory() as folder:
        status(f'making {study.clips:,} clips with {study.labels} labels')
        mels, data, run = (os.path.join(folder, name) for name in ('clips.npz', 'data', 'run'))
        has = make_arrays(mels, study.clips, study.labels)
        found: dict[str, Any] = {'labels_per_clip': float(has.sum(1).mean())}
        prepare = ['-m', 'data_prep', '--source=arrays', f'--input={mels}', f'--out={data}']
        seconds, found['prepare_mb'] = command([*prepare, '--keep_unlabelled'])
        found['prepare_clips_per_second'] = study.clips / seconds
        dataset = open_dataset(data)
        found['splits_seconds'] = timed(lambda: make_splits(dataset))
        train = ['-m', 'glr_jax.train', f'--workdir={run}', f'--data.dir={data}']
        flags = [f'--data.frames={FRAMES}', f'--train.epochs={study.epochs}', '--train.min_steps=0']
        flags += ['--baselines=false']
        seconds, found['train_mb'] = command([*train, f'--data.split={SPLIT}', *flags])
        found |= {'train_seconds': seconds} | logged(run) | validation(run, dataset)
    for name, value in found.items():
        print(f'{name.replace("_", " "):34} {value:12,.3f}')
    print(f'{study.clips:,} clips, {study.labels} labels, {common.in_words(common.hardware())}')
    if study.out:
        json_files.write(study.out, {'machine': common.hardware(), **found})


def make_arrays(path: str, clips: int, labels: int) -> Bool[np.ndarray, 'clips labels']:
    """Writes the .npz of `data_prep --source=arrays`, and returns which labels each clip has."""
    rng = np.random.default_rng(0)
    has = rng.random((clips, labels)) < np.geomspace(RAREST, MOST, labels)
    has[:3] = True  # each label has clips on all sides
    pairs = np.stack([rng.choice(BANDS, 2, replace=False) for _ in range(labels)])
    louder = np.zeros((labels, BANDS), np.float32)
    np.put_along_axis(louder, pairs, 40, 1)
    mel = rng.integers(0, 120, (clips, FRAMES, BANDS), np.uint8)
    for clip, level in enumerate(np.minimum(has @ louder, 135).astype(np.uint8)):
        mel[clip] += level
    names = np.asarray([f'label {k:03}' for k in range(labels)])
    ids = np.asarray([f'{k:06}' for k in range(clips)])
    np.savez(path, mel=mel, labels=has, label_names=names, id=ids)
    return has


def command(arguments: Sequence[str]) -> tuple[float, float]:
    """Runs Python on some arguments.

    Returns:
      Its seconds, and the MB of the largest of its processes (0 where the system does not say).
    """
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    largest = 0.0
    if hasattr(os, 'wait4'):
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        largest = usage.ru_maxrss / (1e6 if sys.platform == 'darwin' else 1e3)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return time.monotonic() - start, largest


def make_splits(dataset: Dataset) -> None:
    """All splits of a dataset, as data_prep makes them."""
    clip_labels = [dataset.labels_of(clip) for clip in range(len(dataset))]
    splits.make_splits(dataset.ids, clip_labels, [''] * len(dataset))


def timed(work: Callable[[], Any]) -> float:
    """The seconds that some work takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def logged(run: str) -> dict[str, Any]:
    """What a run's log says of its speed, and its score."""
    with open(os.path.join(run, 'metrics.jsonl')) as file:
        rows = [json.loads(line) for line in file]
    return {
        'train_clips_per_second': rows[-1]['clips_per_second'] or math.nan,
        'epoch_seconds': rows[0]['seconds'],  # with compilation and validation
        'validation_macro_roc_auc': rows[-1]['validation_macro_roc_auc'] or math.nan,
    }


def validation(run: str, dataset: Dataset) -> dict[str, float]:
    """How long a validation takes once its program is compiled, and its scores alone."""
    (best,) = trained.restore(run)
    apply = trained.predictor(best).apply
    clips = dataset.members(SPLIT, 'validation')
    work = lambda: scoring.score(apply, dataset, clips, best.meta.config)
    first = timed(work)
    has = dataset.has_label()[clips]
    values = np.random.default_rng(0).random(has.shape)

    def scores() -> None:
        thresholds = tag_metrics.best_thresholds(has, values)
        tag_metrics.scores(has, values, dataset.labels, thresholds)

    return {
        'first_validation_seconds': first,
        'validation_seconds': timed(work),
        'scores_seconds': timed(scores),
    }


if __name__ == '__main__':
    cli.execute(main)
