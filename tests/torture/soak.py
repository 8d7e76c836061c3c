"""Predictions in one process, whose memory, open files and threads must not grow."""

import dataclasses
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from glr_jax import inference
from glr_jax.data.mel import FrontEnd, mel_of_file
from glr_jax.errors import ClipError
from tests.torture import commands, parsers
from tests.torture.outcomes import Row

BATCH = 64
GROWTH = 24 << 20  # bytes that the allocator may keep more at the end than after the warm-up
FILES = 10  # one clip in so many is decoded from a file


class Use(NamedTuple):
    """What a process holds: memory in bytes, open files, threads."""

    memory: int
    files: int
    threads: int


def soak_all(folder: str, count: int, minutes: float, seed: int) -> list[Row]:
    """At least `count` predictions and `minutes`, in one child."""
    commands.trained(folder)
    body = lambda: dataclasses.asdict(_soak(Path(folder), count, minutes, seed))
    ended = commands.in_child(body, longest=0)
    if ended.value is None:
        raise RuntimeError(f'the process died: {ended.said}')
    os.write(2, ended.said.encode())
    return [Row(**ended.value)]


def _soak(folder: Path, count: int, minutes: float, seed: int) -> Row:
    predictor, paths = _predictor(str(folder / 'run')), _files(folder)
    rng, draw = np.random.default_rng(seed), random.Random(seed)
    row, uses = Row('soak: predictions'), []
    start = shown = time.monotonic()
    while row.tried < count or time.monotonic() - start < 60 * minutes:
        mels: list[Any] = []
        for k in range(BATCH):
            if k % FILES:
                mels.append(rng.integers(0, 256, (draw.randint(1, 40), 8), np.uint8))
                continue
            try:
                mels.append(mel_of_file(draw.choice(paths), FrontEnd())[:, :8])
            except ClipError:  # some of the files are broken
                mels.append(np.zeros((8, 8), np.uint8))
        decided = inference.decide(predictor, mels).clips
        if decided.shape != (BATCH, 3) or not np.allclose(decided.sum(1), 1, atol=1e-5):
            row.fails('silent', f'probabilities {decided}')
        row.tried += BATCH
        uses.append(use())
        if time.monotonic() - shown > 20:
            shown = time.monotonic()
            print(f'{row.tried} predictions: {_text(uses[-1])}', file=sys.stderr)
    # The first fifth fills caches and pools.
    warm, last = uses[len(uses) // 5], uses[-1]
    print(f'{row.tried} predictions: {_text(warm)}, then {_text(last)}', file=sys.stderr)
    if last.memory > warm.memory + GROWTH or last[1:] > warm[1:]:
        row.fails('lost', f'grew from {_text(warm)} to {_text(last)}')
    return row


def use() -> Use:
    """What this process holds now."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    files, threads = (len(os.listdir(f'/proc/self/{name}')) for name in ('fd', 'task'))
    return Use(pages * resource.getpagesize(), files, threads)


def _text(held: Use) -> str:
    return f'{held.memory / 2**20:.0f} MB, {held.files} files, {held.threads} threads'


def _predictor(run: str) -> inference.Predictor:
    from glr_jax.trained import predictor, restore

    (best,) = restore(run)
    return predictor(best, BATCH)


def _files(folder: Path) -> list[str]:
    """A file of each format, whole and cut."""
    paths = []
    for kind in parsers.FORMATS:
        for name, part in (('whole', 1.0), ('cut', 0.4)):
            content = parsers.audio(kind)
            path = folder / f'{name}.{kind}'
            path.write_bytes(content[: int(part * len(content))])
            paths.append(str(path))
    return paths
