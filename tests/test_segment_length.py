"""--data.seconds: segments as long as that in the dataset, whatever its frame rate."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from glr_jax import train
from glr_jax.config import Config, DataConfig, DataFlags, TrainFlags
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import UsageError, UserError
from glr_jax.run.segment import announce_short_clips, choose_frames
from tests.conftest import SMALL_RUN, model_config


def chosen(data: Path, seconds: float, frames: int = 32) -> Config:
    return choose_frames(
        Config(data=DataConfig(frames=frames), model=model_config()),
        open_dataset(str(data)),
        seconds,
    )


def test_seconds_become_frames_of_the_dataset(tones_dataset: Path) -> None:
    assert chosen(tones_dataset, 1.0).data.frames == 43  # 22050 / 512 frames per second
    assert chosen(tones_dataset, 0.5).data.frames == 22
    assert chosen(tones_dataset, 0).data.frames == 32


def test_clips_much_shorter_than_a_segment_are_announced(
    tones_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = open_dataset(str(tones_dataset))
    clips = dataset.members('random-1', 'train')
    announce_short_clips(chosen(tones_dataset, 1.0), dataset, clips)
    assert not capsys.readouterr().err
    announce_short_clips(chosen(tones_dataset, 30.0), dataset, clips)
    err = capsys.readouterr().err
    assert 'half of the clips have 6' in err
    assert 'fill a segment of 1292 (30.0 s)' in err
    (seconds,) = re.findall(r'shorter segments are faster: --data.seconds=([\d.]+)\n', err)
    usual = int(re.findall(r'half of the clips have (\d+) frames', err)[0])
    assert chosen(tones_dataset, float(seconds)).data.frames == usual
    ready_made = dataclasses.replace(dataset, from_audio=False)
    announce_short_clips(chosen(tones_dataset, 0, 1292), ready_made, clips)
    assert f'faster: --data.frames={usual}\n' in capsys.readouterr().err


def test_less_than_a_window_is_refused_in_seconds(tones_dataset: Path) -> None:
    dataset = open_dataset(str(tones_dataset))
    with pytest.raises(UsageError, match=r'data.seconds=1 is less than one window of 1.49 s'):
        choose_frames(Config(), dataset, 1.0)


@pytest.mark.parametrize('seconds', [23220, 1e9, 1e308])
def test_more_seconds_than_a_segment_may_have_are_refused_in_seconds(
    seconds: float, tones_dataset: Path
) -> None:
    with pytest.raises(UsageError, match=r'seconds=.* must be at most 23219: '):
        chosen(tones_dataset, seconds)
    assert chosen(tones_dataset, 23219).data.frames == 999959


def test_seconds_that_pooling_leaves_nothing_of_are_refused_in_seconds(
    tones_dataset: Path,
) -> None:
    config = Config(model=model_config(front='conv', kernels=(8,), pool=(64,)))
    dataset = open_dataset(str(tones_dataset))
    with pytest.raises(UsageError, match=r'data.seconds=1 has only 43 .* give at least 1.49$'):
        choose_frames(config, dataset, 1.0)
    assert choose_frames(config, dataset, 1.49).data.frames == 64


def test_the_default_number_of_frames_does_not_matter_beside_seconds(tones_dataset: Path) -> None:
    model = model_config(front='statistics', window=2000)
    with pytest.raises(UsageError, match=r'data.frames=1280 is less than --model.window=2000'):
        TrainFlags(model=model)
    flags = TrainFlags(model=model, data=DataFlags(seconds=50))
    dataset = open_dataset(str(tones_dataset))
    assert choose_frames(flags.config(), dataset, flags.data.seconds).data.frames == 2153
    flags = TrainFlags(model=model, data=DataFlags(seconds=1))
    with pytest.raises(UsageError, match=r'data.seconds=1 is less than one window of 46.44 s'):
        choose_frames(flags.config(), dataset, flags.data.seconds)


def test_ready_made_spectrograms_have_no_seconds(tones_dataset: Path) -> None:
    dataset = dataclasses.replace(open_dataset(str(tones_dataset)), from_audio=False)
    with pytest.raises(UserError, match=r'data.seconds=2: .*give --data.frames'):
        choose_frames(Config(), dataset, 2.0)


@pytest.mark.slow
def test_a_run_with_seconds_resumes_with_seconds_or_frames(
    tones_dataset: Path, tmp_path: Path
) -> None:
    flags = [f'--workdir={tmp_path}', f'--data.dir={tones_dataset}', *SMALL_RUN]
    flags = [flag for flag in flags if not flag.startswith('--data.frames')]
    train.main(['train', *flags, '--train.epochs=1', '--data.seconds=0.75'])
    config = json.loads((tmp_path / 'config.json').read_text())
    assert config['data']['frames'] == 32
    train.main(['train', *flags, '--train.epochs=1', '--data.frames=32'])
    with pytest.raises(UserError, match='frames=32'):
        train.main(['train', *flags, '--train.epochs=1', '--data.seconds=1.5'])
