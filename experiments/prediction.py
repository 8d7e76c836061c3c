"""How fast a trained network tags many files, and one: `python -m experiments.prediction`."""

import dataclasses

from experiments import common
from glr_jax import cli
from glr_jax.devices import startup
from glr_jax.fields import option

USAGE = """
usage: python -m experiments.prediction --workdir=DIR [--clips=N] [--seconds=S] [--out=FILE]

Makes stereo mp3 files of demo music in a temporary folder, tags them with
`python -m glr_jax.predict FOLDER --out=tags.csv`, and prints
  clips/s      of the whole command, and from its first row to its last
  reading      clips/s of the same processes without a network: audio files to spectrograms
  first row    seconds from the start of the command to its first row
  memory       the most MB that the command and its worker processes had together (Linux)
  cold start   seconds that the command takes for one file, its start included
  warm         seconds that a tagger takes for one file after its first: glr_jax.load(DIR)(FILE)
and what a cold start and a warm call consist of.

Compiled programs are cached, so the command runs once on one file before anything is timed.
"""


@dataclasses.dataclass(frozen=True)
class Study:
    """The flags."""

    workdir: str = option('', 'folder of a run, or a folder of runs', is_path=True)
    clips: int = option(2000, 'number of files', minimum=2)
    seconds: float = option(30.0, 'length of each file in seconds', minimum=0.2)
    rounds: int = option(5, 'how often a single file is tagged, cold and warm', minimum=1)
    num_workers: int = option(0, "predict's --num_workers; 0 = its default", minimum=0)
    batch_size: int = option(16, 'segments per batch', minimum=1)
    out: str = option('', 'JSON file to write the measurements to', is_path=True)


if __name__ == '__main__':  # before the imports that take seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Study, USAGE)

import contextlib
import glob
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import glr_jax
from experiments.preparation import make_files
from experiments.timing import medians
from glr_jax import json_files, storage
from glr_jax.cli import status
from glr_jax.data.decode_pool import decode, decoders
from glr_jax.data.front_end import FrontEnd
from glr_jax.errors import UserError
from glr_jax.tagger import Tagger
from glr_jax.text import counted
from glr_jax.workers import usable_cores

_COLD = """
import json, sys, time
times = [float(sys.argv[4]), time.time()]
import glr_jax
glr_jax.load
times.append(time.time())
tagger = glr_jax.load(sys.argv[1], int(sys.argv[2]))
times.append(time.time())
tagger(sys.argv[3])
times.append(time.time())
names = "Python's start", 'imports', 'loading', 'first file'
print(json.dumps({name: b - a for name, a, b in zip(names, times, times[1:])}))
"""
_LOOK = 0.02  # seconds between two looks at the rows
_WEIGH = 0.5  # seconds between two looks at the memory, which take some milliseconds


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Study, argv, USAGE)
    cli.need(study, 'workdir')
    common.make_folder_of(study.out)
    if not storage.is_folder(study.workdir):
        raise UserError(f'--workdir={study.workdir} was not found')
    predict = [sys.executable, '-m', 'glr_jax.predict', f'--workdir={study.workdir}']
    predict += [f'--batch_size={study.batch_size}', f'--num_workers={study.num_workers}']
    with tempfile.TemporaryDirectory() as folder:
        status(f'making {counted(study.clips, "mp3 file")}')
        music = os.path.join(folder, 'music')
        files = make_files(music, study.clips, study.seconds)
        cold_start([*predict, files[0]], 1)  # compiles
        status('tagging one file, cold')
        found = {'cold start': cold_start([*predict, files[0]], study.rounds)}
        parts = {'cold': cold_parts(study.workdir, study.batch_size, files[0], study.rounds)}
        status(f'tagging {study.clips}')
        found |= tag_folder([*predict, music], os.path.join(folder, 'tags.csv'))
        status('tagging one file, warm')
        tagger = glr_jax.load(study.workdir, study.batch_size)
        parts['warm'] = warm_parts(tagger, files[: study.rounds + 1])
        found['warm'] = sum(parts['warm'].values())
        status(f'reading {study.clips} without a network')
        found['reading'] = reading_rate(files, tagger.front_end, study.num_workers)
    print(f'whole command    {found["clips/s"]:8.1f} clips/s')
    print(f'after first row  {(rate := found["clips/s after first row"]):8.1f} clips/s')
    ratio = rate / found['reading']
    print(f'reading alone    {found["reading"]:8.1f} clips/s; tagging reaches {ratio:.2f} of it')
    print(f'first row        {found["first row"]:8.2f} s')
    if found['memory']:
        print(f'memory, at most  {found["memory"]:8.0f} MB')
    for name, title in {'cold': 'cold start', 'warm': 'warm'}.items():
        of_parts = ', '.join(f'{part} {seconds:.3f}' for part, seconds in parts[name].items())
        print(f'{title:16} {found[title]:8.3f} s: {of_parts}')
    machine = common.hardware()
    print(f'{study.clips} clips of {study.seconds:g} s, {common.in_words(machine)}')
    if study.out:
        settings = {'clips': study.clips, 'seconds': study.seconds, 'hardware': machine}
        json_files.write(study.out, found | {'parts': parts} | settings)


def cold_start(command: Sequence[str], rounds: int) -> float:
    """Median seconds from the start of a command to its end."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        _check(subprocess.run(command, capture_output=True, text=True))
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def tag_folder(command: Sequence[str], out: str) -> dict[str, float]:
    """Runs a command and watches the rows that it writes and the memory that it takes.

    Args:
      command: `predict` with the folder.
      out: the CSV file to write.

    Returns:
      `clips/s`, `clips/s after first row`, `first row` in seconds, and `memory` in MB; 0 where the
      system does not tell.
    """
    start = time.perf_counter()
    first = memory = weighed = 0.0
    with tempfile.TemporaryFile('w+') as log:
        process = subprocess.Popen(  # a session of its own: its workers belong to it too
            [*command, f'--out={out}'], stdout=log, stderr=log, text=True, start_new_session=True
        )
        try:
            while process.poll() is None:
                now = time.perf_counter() - start
                if not first and _num_rows(out):
                    first = now
                if now > weighed + _WEIGH:
                    memory, weighed = max(memory, _session_memory(process.pid)), now
                time.sleep(_LOOK)
            taken = time.perf_counter() - start
        finally:
            process.terminate()  # if this study was stopped; Ctrl-C does not reach the session
        log.seek(0)
        _check(subprocess.CompletedProcess(command, process.returncode, '', log.read()))
    rows = _num_rows(out)
    first = first or taken
    rate = (rows - 1) / (taken - first) if taken > first else float(rows)
    return {
        'clips/s': rows / taken,
        'clips/s after first row': rate,
        'first row': first,
        'memory': memory,
    }


def cold_parts(workdir: str, batch_size: int, path: str, rounds: int) -> dict[str, float]:
    """Median seconds of what a first tag in a new Python consists of."""
    found = []
    for _ in range(rounds):
        child = [sys.executable, '-c', _COLD, workdir, str(batch_size), path, str(time.time())]
        done = subprocess.run(child, capture_output=True, text=True)
        _check(done)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return medians(found)


def warm_parts(tagger: Tagger, files: Sequence[str]) -> dict[str, float]:
    """Median seconds per file, one after the other, once the first one has been tagged."""
    tagger(files[0])  # compiles
    found = []
    for path in files[1:] or files:
        start = time.perf_counter()
        read = decode(path, tagger.front_end)
        middle = time.perf_counter()
        list(tagger.tag_mels([read]))
        found.append({'reading': middle - start, 'network': time.perf_counter() - middle})
    return medians(found)


def reading_rate(files: Sequence[str], front_end: FrontEnd, num_workers: int) -> float:
    """Clips per second from audio files to spectrograms, from the first one to the last."""
    with decoders(num_workers or usable_cores()) as read:
        spectrograms = read(files, front_end)
        next(spectrograms)
        start = time.perf_counter()
        return sum(1 for _ in spectrograms) / (time.perf_counter() - start)


def _num_rows(out: str) -> int:
    """The complete rows of a CSV file, without its header."""
    try:
        with open(out, 'rb') as file:
            return max(0, file.read().count(b'\n') - 1)
    except FileNotFoundError:
        return 0


def _session_memory(session: int) -> float:
    """MB of all processes of a session; pages that they share count once. 0 if unknown."""
    total = 0
    for path in glob.glob('/proc/[0-9]*/stat'):
        with contextlib.suppress(OSError):  # it has just ended
            with open(path) as file:
                fields = file.read().rpartition(')')[2].split()
            if int(fields[3]) != session:
                continue
            with open(os.path.join(os.path.dirname(path), 'smaps_rollup')) as file:
                shares = re.findall(r'^Pss:\s+(\d+) kB', file.read(), re.MULTILINE)
            total += sum(map(int, shares))
    return total * 1024 / 1e6


def _check(done: subprocess.CompletedProcess) -> None:
    if done.returncode:
        raise UserError(f'predict failed: {(done.stderr.strip().splitlines() or ["?"])[-1]}')


if __name__ == '__main__':
    cli.execute(main)
