"""A messy folder: everything that can be wrong with audio files, prepared at once."""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from glr_jax.data.dataset import open_dataset
from glr_jax.data.mel import FrontEnd, mel_of_file
from glr_jax.errors import ClipError
from tests.conftest import IDS, run, write_music

RATE = 22050
NOISE = 0.1 * np.random.default_rng(1).standard_normal(2 * RATE)


def add_broken_clips(music: Path) -> dict[str, str]:
    """Adds broken clips; returns {id: words that its reason must contain}."""
    hum = music / 'hum'
    (hum / 'empty.wav').touch()
    soundfile.write(hum / 'header.wav', NOISE[:0], RATE)
    (hum / 'text.mp3').write_text('This is no music.\n' * 500)
    soundfile.write(hum / 'nan.wav', np.where(np.arange(9000) == 500, np.nan, 0.1), RATE, 'FLOAT')
    soundfile.write(hum / 'silent.wav', np.zeros(9000), RATE)
    soundfile.write(hum / 'short.wav', NOISE[:1000], RATE)
    soundfile.write(hum / 'sample.wav', NOISE[:1], RATE)
    soundfile.write(hum / 'headless.mp3', NOISE, RATE)
    (hum / 'headless.mp3').write_bytes((hum / 'headless.mp3').read_bytes()[:60])
    (hum / 'loop.wav').symlink_to('loop.wav')
    (hum / 'gone.wav').symlink_to('nowhere.wav')
    return {
        'hum/empty.wav': 'is empty (0 bytes)',
        'hum/header.wav': 'has no samples',
        'hum/text.mp3': 'decoded',
        'hum/nan.wav': 'NaN',
        'hum/silent.wav': 'silent',
        'hum/short.wav': 'shorter than one window',
        'hum/sample.wav': 'shorter than one window',
        'hum/headless.mp3': '',
        'hum/loop.wav': 'cannot be read',
        'hum/gone.wav': 'cannot be read',
    }


def add_unusual_clips(music: Path) -> set[str]:
    """Adds unusual but valid clips; returns their ids."""
    rain = music / 'rain'
    (rain / 'a folder.mp3').mkdir()
    (rain / 'loop').symlink_to('.')
    names = [
        'a folder.mp3/inside.wav',
        'two words.wav',
        '☔🎵.wav',
        'new\nline.wav',
        "it's; $(rm).wav",
    ]
    for k, name in enumerate(names):
        soundfile.write(rain / name, NOISE[k:], RATE)
    for channels in range(1, 9):
        names.append(f'{channels} channels.wav')
        wide = np.random.default_rng(channels).standard_normal((9000, channels))
        soundfile.write(rain / names[-1], 0.1 * wide, RATE)
    for rate in (8000, 11025, 44100, 48000, 96000, 192000):
        names.append(f'{rate} Hz.flac')
        soundfile.write(rain / names[-1], NOISE[: rate // 2], rate)
    names.append('truncated.mp3')
    soundfile.write(rain / names[-1], NOISE, RATE)
    whole = (rain / names[-1]).read_bytes()
    (rain / names[-1]).write_bytes(whole[: len(whole) // 2])
    return {f'rain/{name}' for name in names}


def test_broken_clips_are_skipped_with_a_reason_and_the_others_are_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    music = write_music(tmp_path / 'music')
    broken, odd = add_broken_clips(music), add_unusual_clips(music)
    out = run(music, tmp_path / 'out', '--max_skipped=0.5')
    with open(out / 'skipped.csv', newline='') as file:
        skipped = {row['id']: row['reason'] for row in csv.DictReader(file)}
    assert 'is a symbolic link to a folder' in skipped.pop('rain/loop')
    assert skipped.keys() == broken.keys()
    for id, words in broken.items():
        assert words in skipped[id]
    dataset = open_dataset(str(out))
    assert set(dataset.ids) == {*IDS, *odd}
    assert all(dataset.mel(clip).any() for clip in range(len(dataset)))
    printed = capfd.readouterr()
    assert f'{len(dataset)} clips in {out}, {len(broken)} skipped' in printed.out
    assert 'mpg123' not in printed.err


@pytest.mark.slow
def test_an_hour_needs_little_memory(tmp_path: Path) -> None:
    hour = np.random.default_rng(0).integers(-9999, 9999, 3600 * 8000, np.int16)
    soundfile.write(tmp_path / 'hour.wav', hour, 8000)
    code = (
        'import resource, sys; from glr_jax.data.mel import FrontEnd, mel_of_file;'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;'
        'mel = mel_of_file(sys.argv[1], FrontEnd(sample_rate=8000));'
        'print(len(mel), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)'
    )
    command = [sys.executable, '-c', code, str(tmp_path / 'hour.wav')]
    frames, kilobytes = map(int, subprocess.check_output(command, text=True).split())
    assert frames == 1 + 3600 * 8000 // 512
    assert kilobytes < 700_000  # all at once, the transform would take 0.5 GB more


def test_a_file_without_read_permission_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are closed to other users
        open_file, closed_file = (f'{folder}/{name}.wav' for name in ('open', 'closed'))
        os.chmod(folder, 0o755)
        for path, mode in ((open_file, 0o644), (closed_file, 0)):
            soundfile.write(path, NOISE, RATE)
            os.chmod(path, mode)
        mel_of_file(open_file, FrontEnd())  # imports what the other user may not be able to
        user = os.geteuid()
        user or os.seteuid(65534)  # root may read everything
        try:
            mel_of_file(open_file, FrontEnd())
            with pytest.raises(ClipError, match=r'^cannot be read: Permission denied$'):
                mel_of_file(closed_file, FrontEnd())
        finally:
            os.seteuid(user)
