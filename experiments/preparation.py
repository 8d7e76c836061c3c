"""How fast data_prep is: beside a plain loop over the same files, and beside decoding alone.

`python -m experiments.preparation`
"""

import concurrent.futures
import contextlib
import dataclasses
import glob
import io
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import librosa
import numpy as np
import soundfile

from data_prep import demo
from data_prep.pipeline import prepare
from data_prep.runners import on_pool, one_blas_thread, usable_cores
from data_prep.sources import folder_clips
from glr_jax import cli
from glr_jax.cli import status
from glr_jax.data.audio import load_audio
from glr_jax.data.mel import FrontEnd
from glr_jax.fields import option

USAGE = """
usage: python -m experiments.preparation [--clips=N] [--seconds=S] [--flag=value ...]

Makes stereo mp3 files of demo music and prints, as medians of rounds taken in turn:
  plain loop   librosa.load and melspectrogram, one file after the other
  decoding     the decoder alone, on the same number of processes as data_prep
  data_prep    from the files to a finished dataset folder
and the memory of data_prep's largest worker, early and at the end (Linux).
"""
SAMPLE_RATE = 44100  # of the files
DISTINCT = 32  # files; more clips than that are links to the same ones


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What the command line says."""

    clips: int = option(64, 'how many', minimum=2)
    seconds: float = option(30.0, 'length of each', minimum=0.2)
    rounds: int = option(3, 'of each measurement', minimum=1)
    num_workers: int = option(0, 'processes; 0: one a core', minimum=0)
    out: str = option('', 'a JSON file for the figures')


def main(argv: list[str]) -> None:
    """Runs the command line."""
    benchmark = cli.parse(Benchmark, argv, USAGE)
    workers = benchmark.num_workers or usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        status(f'making {benchmark.clips} mp3 files')
        files = make_files(os.path.join(folder, 'music'), benchmark.clips, benchmark.seconds)
        memory: list[float] = []
        rates = measure(folder, files, workers, benchmark.rounds, memory)
    for name, rate in rates.items():
        print(f'{name:12} {rate:8.1f} clips/s')
    print(f'data_prep / plain loop        {rates["data_prep"] / rates["plain loop"]:5.2f}')
    print(f'data_prep / decoding          {rates["data_prep"] / rates["decoding"]:5.2f}')
    if memory:
        early = memory[len(memory) // 4]
        print(f'largest worker, MB            {early:5.0f} early, {memory[-1]:.0f} at most')
    print(f'{benchmark.clips} clips of {benchmark.seconds:g} s, {workers} workers')
    if benchmark.out:
        with open(benchmark.out, 'w') as file:
            json.dump({'clips_per_second': rates, 'workers': workers}, file, indent=2)


def make_files(folder: str, clips: int, seconds: float) -> list[str]:
    """Stereo mp3 files at 44.1 kHz, in two labels; the later ones are links to the first."""
    files: list[str] = []
    for label in ('one', 'two'):
        os.makedirs(os.path.join(folder, label))
    for k in range(clips):
        path = os.path.join(folder, ('one', 'two')[k % 2], f'{k:06}.mp3')
        if k < DISTINCT:
            style = list(demo.STYLES)[k % len(demo.STYLES)]
            samples = np.resize(
                demo.synthesise(style, k, SAMPLE_RATE), round(seconds * SAMPLE_RATE)
            )
            soundfile.write(path, np.stack([samples, np.roll(samples, 40)], 1), SAMPLE_RATE)
        else:
            os.link(files[k % DISTINCT], path)
        files.append(path)
    return files


def measure(
    folder: str, files: Sequence[str], workers: int, rounds: int, memory: list[float]
) -> dict[str, float]:
    """Clips a second of each way, the median of rounds taken in turn.

    `memory` is given the MB of data_prep's largest worker over its last round.
    """
    out = os.path.join(folder, 'dataset')

    def ours() -> None:
        memory.clear()
        with contextlib.redirect_stderr(io.StringIO()), watch_workers(memory):  # no progress bar
            clips = folder_clips(os.path.join(folder, 'music'))
            prepare(clips, out, FrontEnd(), runner=on_pool(workers))

    ways: dict[str, Callable[[], None]] = {
        'plain loop': lambda: plain_loop(files),
        'decoding': lambda: decode_all(files, workers),
        'data_prep': ours,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: len(files) / statistics.median(times) for name, times in seconds.items()}


def plain_loop(files: Sequence[str]) -> None:
    """What anybody would write first."""
    for path in files:
        samples, rate = librosa.load(path)
        librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate), ref=np.max)


def decode_all(files: Sequence[str], workers: int) -> None:
    """Reads every file as mono, on so many processes."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['data_prep.shards', __name__])
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=one_blas_thread
    ) as pool:
        list(pool.map(_decode, files, chunksize=8))


def _decode(path: str) -> int:
    return len(load_audio(path, SAMPLE_RATE))


@contextlib.contextmanager
def watch_workers(most: list[float]) -> Iterator[None]:
    """Appends, every half second, the most MB any worker has had so far."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            sizes = [_resident(path) for path in glob.glob('/proc/[0-9]*/stat')]
            if any(sizes):
                most.append(max([*sizes, *most[-1:]]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _resident(path: str) -> float:
    """MB of a process of our group other than this one; 0 for any other."""
    try:
        with open(path) as file:
            fields = file.read().rpartition(')')[2].split()
    except OSError:
        return 0.0
    mine = int(fields[2]) == os.getpgrp() and path != f'/proc/{os.getpid()}/stat'
    return int(fields[21]) * os.sysconf('SC_PAGESIZE') / 1e6 if mine else 0.0


if __name__ == '__main__':
    cli.execute(main)
