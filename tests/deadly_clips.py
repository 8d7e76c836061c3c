"""Clips that fail in their own ways, for worker processes: this imports little."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import numpy as np

from data_prep import sources
from data_prep.clips import Clip
from glr_jax.data.mel import FrontEnd, mel_of_file
from glr_jax.errors import UserError


def kill(path: str, front_end: FrontEnd) -> np.ndarray:
    """Is killed as by the system when memory runs out, in every process."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def kill_once(mark: str, path: str, front_end: FrontEnd) -> np.ndarray:
    """Is killed the first time."""
    if not os.path.exists(mark):
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mel_of_file(path, front_end)


def no_memory(front_end: FrontEnd) -> np.ndarray:
    raise MemoryError


def fail(front_end: FrontEnd) -> np.ndarray:
    raise ZeroDivisionError('a bug')


def sleep(mark: str, front_end: FrontEnd) -> np.ndarray:
    """Takes longer than any test; tells which process it is in."""
    Path(f'{mark}-{os.getpid()}').touch()
    time.sleep(600)
    raise AssertionError


def clips_with(music: Path, **special: object) -> list[Clip]:
    """The clips of a folder; `special` replaces how some are read: {hum_3: function}."""
    clips = sources.folder_clips(str(music))
    for name, mel in special.items():
        (at,) = (k for k, clip in enumerate(clips) if clip.id == f'{name.replace("_", "/")}.wav')
        clips[at] = dataclasses.replace(clips[at], mel=mel)  # type: ignore[arg-type]
    return clips


def no_room(front_end: FrontEnd) -> np.ndarray:
    raise UserError('no room')
