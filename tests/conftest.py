"""Eight simulated devices for every test, and a small dataset of noise that several read."""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'  # tests leave the user's own cache alone

from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
import pytest
import soundfile

from data_prep.__main__ import main

jax.config.update('jax_num_cpu_devices', 8)

PathLike = TypeVar('PathLike', Path, str)
LABELS = ('hiss', 'hum', 'rain')
IDS = [f'{label}/{k}.wav' for label in LABELS for k in range(8)]
RANDOM = ['random-1', 'random-2', 'random-3']


def write_music(folder: Path) -> Path:
    """Eight short clips of noise in each of three labels, of several lengths."""
    rng = np.random.default_rng(0)
    for id in IDS:
        (folder / id).parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * rng.standard_normal(3000 + 512 * rng.integers(8))
        soundfile.write(folder / id, noise, 22050)
    return folder


def run(music: Path | str, out: PathLike, *flags: str) -> PathLike:
    command = ['data_prep', f'--input={music}', f'--out={out}', '--clips_per_shard=5']
    main([*command, '--num_workers=1', *flags])
    return out


@pytest.fixture(scope='session')
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_music(tmp_path_factory.mktemp('music'))


@pytest.fixture(scope='session')
def prepared(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, to be read only."""
    return run(music, tmp_path_factory.mktemp('data') / 'set')
