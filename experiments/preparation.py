"""How fast data_prep is, against a plain loop over the same files and against decoding alone.

`python -m experiments.preparation`
"""

import dataclasses
from typing import Any, Literal

from experiments import common
from glr_jax import cli
from glr_jax.fields import option

USAGE = """
usage: python -m experiments.preparation [--clips=N] [--seconds=S] [--flag=value ...]

Makes stereo files of demo music, times three ways of reading them in turns, and prints the median
clips per second of each:
  plain loop   librosa.load and melspectrogram, one file after the other
  decoding     the decoder alone, on as many processes as data_prep
  data_prep    from the files to a finished dataset folder
Then it prints the milliseconds per clip of each stage of data_prep, measured in turns on one core.
On Linux, it also prints the memory of data_prep's largest worker process, early and at the end.
"""
SAMPLE_RATE = 44100  # of the files
DISTINCT = 32  # files; further clips are links to them
STAGED = 4  # files whose stages are timed


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The flags."""

    clips: int = option(64, 'number of files, at least 6', minimum=6)  # two labels, three each
    seconds: float = option(30.0, 'length of each file in seconds', minimum=0.2)
    format: Literal['mp3', 'wav', 'flac'] = option('mp3', 'of the files')
    rounds: int = option(3, 'how often each way is timed', minimum=1)
    num_workers: int = option(0, 'worker processes; 0 = one per CPU core', minimum=0)
    out: str = option('', 'JSON file to write the measurements to', is_path=True)


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(Preparation, USAGE)

import concurrent.futures
import contextlib
import glob
import io
import math
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence

import librosa
import numpy as np
import soundfile

from data_prep import demo, reuse
from data_prep.pipeline import prepare
from data_prep.runners import on_pool
from data_prep.sources import folder_clips
from experiments.timing import Workload, time_in_turns, warm_up
from glr_jax import json_files
from glr_jax.cli import status
from glr_jax.data import mel, records
from glr_jax.data.audio import load_audio
from glr_jax.data.example import spectrogram_digest
from glr_jax.data.mel import FrontEnd
from glr_jax.data.tfrecord import write_records
from glr_jax.data.waveform import Audio, resample
from glr_jax.workers import tune, usable_cores


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Preparation, argv, USAGE)
    common.make_folder_of(study.out)
    workers = study.num_workers or usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        status(f'making {study.clips} {study.format} files')
        files = make_files(os.path.join(folder, 'music'), study.clips, study.seconds, study.format)
        rates, memory = measure(folder, files, workers, study.rounds)
        with processes(1) as pool:
            stages = pool.submit(time_stages, folder, files[:STAGED], study.rounds).result()
    for name, rate in rates.items():
        print(f'{name:12} {rate:8.1f} clips/s')
    print(f'data_prep / plain loop        {rates["data_prep"] / rates["plain loop"]:5.2f}')
    print(f'data_prep / decoding          {rates["data_prep"] / rates["decoding"]:5.2f}')
    for name, milliseconds in stages.items():
        print(f'{name:12} {milliseconds:8.2f} ms per clip')
    if memory:
        early = memory[len(memory) // 4]
        print(f'largest worker, MB            {early:5.0f} early, {memory[-1]:.0f} at most')
    print(f'{study.clips} clips of {study.seconds:g} s, {workers} workers')
    if study.out:
        written = {'clips_per_second': rates, 'workers': workers, 'milliseconds': stages}
        json_files.write(study.out, written)


def make_files(folder: str, clips: int, seconds: float, suffix: str = 'mp3') -> list[str]:
    """Writes stereo files at 44.1 kHz with two labels; after DISTINCT files, links to them.

    Args:
      folder: to write to, one sub-folder per label.
      clips: how many files.
      seconds: length of each.
      suffix: of their names, which says the format.
    """
    files: list[str] = []
    for label in ('one', 'two'):
        os.makedirs(os.path.join(folder, label))
    for k in range(clips):
        path = os.path.join(folder, ('one', 'two')[k % 2], f'{k:06}.{suffix}')
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
    folder: str, files: Sequence[str], workers: int, rounds: int
) -> tuple[dict[str, float], list[float]]:
    """Times the three ways in turns.

    Returns:
      Clips per second of each, and the MB of data_prep's largest worker during its last round, as
      from `watch_workers`.
    """
    memory: list[float] = []

    def ours() -> None:
        memory.clear()
        with (
            tempfile.TemporaryDirectory() as out,  # a new one: nothing is there to be reused
            contextlib.redirect_stderr(io.StringIO()),  # no progress bar
            watch_workers(memory),
        ):
            clips = folder_clips(os.path.join(folder, 'music'))
            prepare(clips, out, FrontEnd(), runner=on_pool(workers))

    ways: dict[str, Workload] = {
        'plain loop': lambda: plain_loop(files),
        'decoding': lambda: decode_all(files, workers),
        'data_prep': ours,
    }
    seconds = time_in_turns(ways, rounds, turn=0)
    return {name: len(files) / median for name, median in seconds.items()}, memory


def plain_loop(files: Sequence[str]) -> None:
    """The obvious loop, for comparison."""
    for path in files:
        samples, rate = librosa.load(path)
        librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate), ref=np.max)


def decode_all(files: Sequence[str], workers: int) -> None:
    """Reads every file as mono, on this many processes."""
    with processes(workers) as pool:
        list(pool.map(_decode, files, chunksize=8))


def processes(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    """Processes that start as those of data_prep do."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['data_prep.shards', __name__])
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=tune)


def time_stages(folder: str, files: Sequence[str], rounds: int) -> dict[str, float]:
    """Milliseconds per file of each stage of data_prep, in turns."""
    front_end = FrontEnd()
    decoded = [load_audio(path, SAMPLE_RATE) for path in files]
    samples = [np.concatenate(list(_resampled(one))) for one in decoded]
    pieces = [piece for one in samples for piece in mel.pieces(iter([one]), front_end)]
    spectra = [mel.power_spectra(piece, front_end, np.float32) for piece in pieces]
    powers = [mel.in_bands(spectrum, front_end) for spectrum in spectra]
    stored = [mel.mel_of_samples(one, front_end) for one in samples]
    features = records.features(('one', 'two'), front_end.n_mels, front_end.mel_dtype)

    def write(values: np.ndarray, path: str) -> None:
        reuse.content_of(path, front_end)
        spectrogram_digest(values)
        clip = {'id': path, 'label': 0, 'group': '', 'mel': values}
        record = records.serialize(features, clip)
        write_records(os.path.join(folder, 'record'), [record])

    def each(stage: Callable[..., object], *inputs: Sequence[Any]) -> Workload:
        def all_of_them() -> None:
            for one in zip(*inputs, strict=True):
                stage(*one)

        return all_of_them

    ways = {
        'decode': each(_decode, files),
        'resample': each(lambda one: sum(map(len, _resampled(one))), decoded),
        'STFT': each(lambda piece: mel.power_spectra(piece, front_end, np.float32), pieces),
        'mel': each(lambda spectrum: mel.in_bands(spectrum, front_end), spectra),
        'decibels': each(
            lambda power: mel.encode(mel.decibels(power, power.max(), front_end), front_end), powers
        ),
        'write': each(write, stored, files),
    }
    warm_up(ways)
    seconds = time_in_turns(ways, max(rounds, 9), turn=0)
    return {name: 1000 * median / len(files) for name, median in seconds.items()}


def _resampled(samples: np.ndarray) -> Iterator[np.ndarray]:
    return resample(Audio(SAMPLE_RATE, math.nan, iter([samples])), FrontEnd().sample_rate)


@contextlib.contextmanager
def watch_workers(largest: list[float]) -> Iterator[None]:
    """Appends to a list, every half second, the most MB that any worker process has had so far."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            sizes = [_resident(path) for path in glob.glob('/proc/[0-9]*/stat')]
            if any(sizes):
                largest.append(max([*sizes, *largest[-1:]]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _decode(path: str) -> int:
    return len(load_audio(path, SAMPLE_RATE))


def _resident(path: str) -> float:
    """Resident MB of a process, if it is another one in our process group; else 0."""
    try:
        with open(path) as file:
            fields = file.read().rpartition(')')[2].split()
    except OSError:
        return 0.0
    mine = int(fields[2]) == os.getpgrp() and path != f'/proc/{os.getpid()}/stat'
    return int(fields[21]) * os.sysconf('SC_PAGESIZE') / 1e6 if mine else 0.0


if __name__ == '__main__':
    cli.execute(main)
