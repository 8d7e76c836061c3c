"""Eight simulated devices, checked shapes and types, and small datasets and a run to share."""

import os
import tempfile

os.environ['JAX_PLATFORMS'] = 'cpu'
# Most of the time goes into compiling small programs: LLVM's costly passes do not pay.
os.environ.setdefault('XLA_FLAGS', '--xla_llvm_disable_expensive_passes=true')
if 'PYTEST_XDIST_WORKER' not in os.environ:  # all workers and commands compile a program once
    _CACHE = tempfile.TemporaryDirectory(prefix='glr_jax-tests-')
    os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

from jaxtyping import install_import_hook

from tests import typechecker

# Every annotated shape and type is checked at every call.
install_import_hook(['glr_jax', 'data_prep', 'experiments'], f'{typechecker.__name__}.checked')

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import pytest
import soundfile

from data_prep import clips
from data_prep.__main__ import main as prepare
from experiments import paper
from glr_jax import flagfiles, train
from glr_jax.config import TrainConfig
from glr_jax.data.dataset import Dataset
from glr_jax.data.mel import FrontEnd
from glr_jax.data.segments import crop
from glr_jax.nn.config import ModelConfig

jax.config.update('jax_num_cpu_devices', 8)

PathLike = TypeVar('PathLike', Path, str)
LABELS = ('hiss', 'hum', 'rain')
IDS = [f'{label}/{k}.wav' for label in LABELS for k in range(8)]
RANDOM = [f'random-{k}' for k in range(1, 14)]
PITCHES = {'high': 3000, 'low': 200, 'middle': 900}  # Hz
_PAPER = Path(__file__).parents[1] / 'experiments' / 'gtzan_paper.flags'
# The settings of the paper, which do not follow the defaults.
PAPER = [
    flag
    for flag in flagfiles.expand([f'--flagfile={_PAPER}'])
    if flag.startswith(('--model.', '--train.', '--augment.'))
]
SMALL_RUN = [
    *PAPER,
    *('--data.frames=32', '--train.batch_size=8', '--train.epochs=6'),
    *('--model.kernels=16,16', '--model.hidden=16', '--train.learning_rate=0.01'),
]


def model_config(**changes: Any) -> ModelConfig:
    """The paper's model with some changes; it does not follow the defaults.

    With a front end of statistics, its windows overlap by half.
    """
    return dataclasses.replace(paper.MODEL, **{'window_hop': 32} | changes)


def train_config(**changes: Any) -> TrainConfig:
    """The paper's training with some changes; it does not follow the defaults."""
    return dataclasses.replace(paper.TRAIN, **changes)


def write_music(folder: Path) -> Path:
    """Eight short clips of noise in each of three labels, of several lengths."""
    rng = np.random.default_rng(0)
    for id in IDS:
        (folder / id).parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * rng.standard_normal(3000 + 512 * rng.integers(8))
        soundfile.write(folder / id, noise, 22050)
    return folder


def write_tone(
    path: Path, hertz: float, seconds: float, rate: int = 22050, channels: int = 1
) -> None:
    """A clip whose label can be told by its pitch."""
    time_axis = np.arange(int(rate * seconds)) / rate
    noise = np.random.default_rng(int(hertz)).standard_normal((len(time_axis), channels))
    wave = 0.5 * np.sin(2 * np.pi * hertz * time_axis)[:, None] + 0.02 * noise
    soundfile.write(path, wave, rate)


def run(music: Path | str, out: PathLike, *flags: str) -> PathLike:
    """Prepares a dataset in this process."""
    command = ['data_prep', f'--input={music}', f'--out={out}', '--clips_per_shard=5']
    workers = [] if '--runner=beam' in flags else ['--num_workers=1']
    prepare([*command, *workers, *flags])
    return out


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded since."""
    names: list[str] = []
    compute = clips.mel_of_file

    def note(path: str, front_end: FrontEnd) -> np.ndarray:
        names.append(Path(path).name)
        return compute(path, front_end)

    monkeypatch.setattr(clips, 'mel_of_file', note)
    return names


class MadeDataset(Dataset):
    """A dataset of spectrograms in memory."""

    mels: Sequence[np.ndarray]

    def mel(self, clip: int) -> np.ndarray:
        return self.mels[clip]

    def read_crop(self, clip: int, start: float, out: np.ndarray) -> None:
        out[:] = crop(self.mels[clip], len(out), start)

    def stored_bytes(self, clips: np.ndarray) -> np.ndarray:
        return np.asarray([self.mels[clip].nbytes for clip in clips])


def make_dataset(
    labels: Sequence[str], targets: Sequence[int], mels: Sequence[np.ndarray] = ()
) -> Dataset:
    made = MadeDataset(
        folder='made',
        ids=[f'clip {k}' for k in range(len(targets))],
        labels=tuple(labels),
        targets=np.asarray(targets, np.int32),
        splits={},
        front_end=FrontEnd(),
        from_audio=True,
        n_mels=2,
        mel_dtype=np.dtype('uint8'),
        _files=[],
        _starts=[0],
    )
    object.__setattr__(made, 'mels', mels)
    return made


@pytest.fixture(scope='session')
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_music(tmp_path_factory.mktemp('music'))


@pytest.fixture(scope='session')
def prepared(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of noise; to be read only."""
    return run(music, tmp_path_factory.mktemp('data') / 'set')


@pytest.fixture(scope='session')
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels told apart by their pitch, ten clips each; to be read only."""
    folder = tmp_path_factory.mktemp('tones')
    for label, hertz in PITCHES.items():
        (folder / label).mkdir()
        for k in range(10):
            write_tone(folder / label / f'{k}.wav', hertz * (1 + 0.02 * k), 1.0 + 0.1 * k)
    return folder


@pytest.fixture(scope='session')
def tones_dataset(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their dataset; to be read only."""
    return run(tones, tmp_path_factory.mktemp('data') / 'tones', '--clips_per_shard=32')


@pytest.fixture(scope='session')
def tones_run(tones_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on it; to be read only."""
    folder = tmp_path_factory.mktemp('runs') / 'tones'
    train.main(['train', f'--workdir={folder}', f'--data.dir={tones_dataset}', *SMALL_RUN])
    return folder


@pytest.fixture(scope='session')
def chords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips with none, one, two or all of three tones, their labels; to be read only."""
    folder = tmp_path_factory.mktemp('chords')
    rng, lines = np.random.default_rng(0), ['path,labels']
    for k in range(40):
        time_axis = np.arange(22050 + 2205 * (k % 5)) / 22050
        wave = 0.02 * rng.standard_normal(len(time_axis))
        labels = [label for bit, label in enumerate(PITCHES) if k % 8 >> bit & 1]
        for label in labels:
            hertz = PITCHES[label] * (1 + 0.01 * (k // 8))
            wave += 0.25 * np.sin(2 * np.pi * hertz * time_axis)
        soundfile.write(folder / f'{k}.wav', wave, 22050)
        lines.append(f'{k}.wav,{"|".join(labels)}')
    (folder / 'metadata.csv').write_text('\n'.join(lines) + '\n')
    return folder


@pytest.fixture(scope='session')
def tagged_dataset(chords: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their dataset, with any number of labels per clip; to be read only."""
    flags = ('--clips_per_shard=64', '--keep_unlabelled')
    return run(chords, tmp_path_factory.mktemp('data') / 'chords', *flags)


@pytest.fixture(scope='session')
def tagged_run(tagged_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on it; to be read only."""
    folder = tmp_path_factory.mktemp('runs') / 'chords'
    train.main(['train', f'--workdir={folder}', f'--data.dir={tagged_dataset}', *SMALL_RUN])
    return folder
