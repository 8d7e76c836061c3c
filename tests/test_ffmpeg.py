"""Formats that libsndfile does not know, read with ffmpeg if there is one."""

import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from glr_jax import predict
from glr_jax.data import ffmpeg, waveform
from glr_jax.data.audio import load_audio
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import ClipError, UnreadableError, UserError
from tests.conftest import run, write_music

RATE = 22050
PROGRAM = ffmpeg.find()
needs_ffmpeg = pytest.mark.skipif(PROGRAM is None, reason='no ffmpeg')


def sine(rate: int = RATE, seconds: float = 2.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)


def convert(samples: np.ndarray, path: Path, rate: int = RATE) -> Path:
    """Writes samples in the format of a suffix that soundfile cannot write."""
    source = path.with_name('source.wav')
    soundfile.write(source, samples, rate)
    command = [str(PROGRAM), '-nostdin', '-loglevel', 'error', '-y', '-i', str(source), str(path)]
    subprocess.run(command, check=True)
    source.unlink()
    return path


def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, 'find', lambda: None)


@needs_ffmpeg
@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize('suffix', ['m4a', 'aac', 'wma', 'webm', 'mka', 'wv', 'tta', 'ac3', 'mp2'])
def test_other_formats_are_read_as_the_mean_of_their_channels(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    gains = np.linspace(0.4, 0.8, channels)
    rate = 48000
    path = convert(sine(rate)[:, None] * gains, tmp_path / f'x.{suffix}', rate)
    samples = load_audio(str(path), rate)
    assert samples.dtype == np.float32
    assert abs(len(samples) / rate - 2) < 0.1
    middle = samples[rate // 2 : rate]
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5 * gains.mean(), rel=0.05)


@needs_ffmpeg
def test_a_lossless_file_has_the_samples_of_its_wav(tmp_path: Path) -> None:
    path = convert(sine(), tmp_path / 'x.wv')
    soundfile.write(tmp_path / 'y.wav', sine(), RATE)
    for rate in (RATE, 16000):
        np.testing.assert_array_equal(
            load_audio(str(path), rate), load_audio(str(tmp_path / 'y.wav'), rate)
        )


@needs_ffmpeg
@pytest.mark.parametrize(
    'name', ['x.mp3', 'x.wav', '-i.m4a', 'a b;$(rm).m4a', 'http:x.m4a', '%d.m4a']
)
def test_the_content_counts_and_any_name_is_a_file(tmp_path: Path, name: str) -> None:
    path = convert(sine(), tmp_path / 'x.m4a').rename(tmp_path / name)
    assert len(load_audio(str(path), RATE)) > RATE


@needs_ffmpeg
def test_a_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b'/\xe9.m4a'
    os.rename(convert(sine(), tmp_path / 'x.m4a'), path)
    assert len(load_audio(os.fsdecode(path), RATE)) > RATE


@needs_ffmpeg
@pytest.mark.parametrize('suffix', ['m4a', 'webm', 'mp4', 'aac'])
@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'no music\n' * 500,
        b'#EXTM3U\nsecret.wav\n',
        b'ffconcat version 1.0\nfile secret.wav\n',
    ],
)
def test_what_is_no_audio_or_names_other_files_is_refused(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    soundfile.write(tmp_path / 'secret.wav', sine(), RATE)
    (tmp_path / f'x.{suffix}').write_bytes(content)
    words = 'cannot be decoded as audio, not even by ffmpeg' if content else 'is empty'
    with pytest.raises(ClipError, match=words):
        load_audio(str(tmp_path / f'x.{suffix}'), RATE)


@needs_ffmpeg
@pytest.mark.parametrize(
    ('module', 'limit', 'value', 'words'),
    [
        (ffmpeg, 'MAX_BYTES', 1000, 'the limit for ffmpeg'),
        (waveform, 'MAX_SECONDS', 1, 'is longer than'),
        (waveform, 'MAX_CHANNELS', 1, 'has 2 channels'),
    ],
)
def test_its_limits_hold(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    limit: str,
    value: int,
    words: str,
) -> None:
    path = convert(np.stack([sine()] * 2, 1), tmp_path / 'x.m4a')
    monkeypatch.setattr(module, limit, value)
    with pytest.raises(ClipError, match=words):
        load_audio(str(path), RATE)


def test_an_ffmpeg_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / 'ffmpeg'
    program.write_text('#!/bin/sh\nexec sleep 60\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setattr(ffmpeg, 'MAX_WALL_SECONDS', 0.3)
    (tmp_path / 'x.m4a').write_text('anything')
    start = time.monotonic()
    with pytest.raises(ClipError, match=r'took ffmpeg more than 0\.3 s'):
        load_audio(str(tmp_path / 'x.m4a'), RATE)
    assert time.monotonic() - start < 20


def test_without_ffmpeg_the_reason_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_ffmpeg(monkeypatch)
    music = write_music(tmp_path / 'music')
    for k in range(3):
        (music / f'rain/{k}.m4a').write_bytes(b'....ftypM4A ')
    with pytest.raises(UserError, match='3 of 27 clips were skipped'):
        run(music, tmp_path / 'out')
    said = capsys.readouterr().err
    assert re.search(r"rain/0\.m4a and 2 others: .*pip install -e '\.\[ffmpeg\]'", said)
    run(music, tmp_path / 'out', '--max_skipped=0.2')
    assert 'rain                           8  (of 11: 3 skipped)' in capsys.readouterr().out
    assert next(predict.find([str(music / 'rain')])) == f'{music}/rain/0.m4a'


def test_a_label_that_needs_ffmpeg_is_never_silently_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_ffmpeg(monkeypatch)
    music = write_music(tmp_path / 'music')
    for k in range(8):
        (music / f'rain/{k}.wav').rename(music / f'rain/{k}.m4a').write_text('anything')
    with pytest.raises(UserError, match=r"label 'rain' has no clip .*install ffmpeg"):
        run(music, tmp_path / 'out', '--max_skipped=1')


@needs_ffmpeg
def test_after_ffmpeg_was_installed_the_same_command_reads_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    music = write_music(tmp_path / 'music')
    for k in range(3):
        noise = 0.1 * np.random.default_rng(k).standard_normal(RATE)
        convert(noise, music / f'rain/{k}.m4a')
    with monkeypatch.context() as patch:
        no_ffmpeg(patch)
        with pytest.raises(UserError, match='3 of 27'):
            run(music, tmp_path / 'out')
    dataset = open_dataset(str(run(music, tmp_path / 'out')))
    assert len(dataset) == 27
    assert 'rain/0.m4a' in dataset.ids


@needs_ffmpeg
def test_an_ffmpeg_that_is_killed_gives_no_short_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / 'ffmpeg'
    program.write_text(f'#!/bin/sh\n"{PROGRAM}" "$@" | head -c 50000\nkill -9 $$\n')
    program.chmod(0o755)
    monkeypatch.setattr(ffmpeg, 'find', lambda: str(program))
    with pytest.raises(UnreadableError, match='ffmpeg was killed'):
        load_audio(str(convert(sine(), tmp_path / 'x.m4a')), RATE)
