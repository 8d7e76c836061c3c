"""One file cannot take the machine: what it may take is checked before memory is."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from glr_jax.data import audio, limits, mel, waveform
from glr_jax.data.audio import load_audio, stated_seconds
from glr_jax.data.mel import FrontEnd, log_mel, mel_of_file, mel_of_samples
from glr_jax.errors import ClipError
from tests.conftest import run, write_music

RATE = 22050
NOISE = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)


def peak_megabytes(path: Path) -> tuple[str, float]:
    """The outcome for a file in a process of its own, and the most memory that takes."""
    code = (
        'import sys; from glr_jax.data.mel import FrontEnd, mel_of_file\n'
        'from glr_jax.errors import ClipError\n'
        'try: print(len(mel_of_file(sys.argv[1], FrontEnd())))\n'
        'except ClipError as error: print(error)\n'
        'print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])'
    )
    said = subprocess.check_output([sys.executable, '-c', code, str(path)], text=True, timeout=120)
    outcome, kilobytes = said.splitlines()
    return outcome, int(kilobytes) / 1000


@pytest.mark.parametrize(
    ('rate', 'words'),
    [
        (1, 'is longer than 4 hours'),
        (100, 'has a sample rate of 100 Hz'),
        (220, 'has a sample rate of 220 Hz'),
    ],
)
def test_a_sample_rate_far_below_the_usual_is_refused(
    tmp_path: Path, rate: int, words: str
) -> None:
    soundfile.write(tmp_path / 'x.wav', NOISE[:44100], rate)
    outcome, megabytes = peak_megabytes(tmp_path / 'x.wav')
    assert outcome.startswith(words)
    assert megabytes < 300


def test_a_sample_rate_far_above_the_usual_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / 'x.wav', NOISE, 4_000_000)
    with pytest.raises(ClipError, match='has a sample rate of 4000000 Hz'):
        load_audio(str(tmp_path / 'x.wav'), RATE)


def test_hours_of_silence_in_a_small_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'x.flac'
    with soundfile.SoundFile(path, 'w', 8000, 1) as file:
        for _ in range(5 * 60):
            file.write(np.zeros(60 * 8000, np.float32))
    assert path.stat().st_size < 1_000_000
    outcome, megabytes = peak_megabytes(path)
    assert 'is longer than 4 hours' in outcome
    assert 'split it' in outcome
    assert megabytes < 300


def test_a_file_that_hides_its_length_is_refused_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (audio, waveform):
        monkeypatch.setattr(module, 'MAX_SECONDS', 2)
    soundfile.write(tmp_path / 'x.ogg', NOISE, RATE)
    (tmp_path / 'y.ogg').write_bytes(2 * (tmp_path / 'x.ogg').read_bytes())
    soundfile.write(tmp_path / 'x.mp3', NOISE, RATE)
    for name in ('x.ogg', 'y.ogg', 'x.mp3'):
        with pytest.raises(ClipError, match='is longer than'):
            mel_of_file(str(tmp_path / name), FrontEnd())


def test_too_many_channels_are_refused(tmp_path: Path) -> None:
    for channels in (64, 65, 1000):
        wide = np.random.default_rng(0).standard_normal((3000, channels))
        soundfile.write(tmp_path / 'x.wav', 0.1 * wide, RATE)
        if channels <= limits.MAX_CHANNELS:
            assert len(load_audio(str(tmp_path / 'x.wav'), RATE)) == 3000
            continue
        with pytest.raises(ClipError, match=f'has {channels} channels; at most 64 are read'):
            load_audio(str(tmp_path / 'x.wav'), RATE)


def test_a_spectrogram_that_would_be_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mel, 'MAX_VALUES', 100_000)
    soundfile.write(tmp_path / 'x.wav', NOISE, RATE)
    assert len(mel_of_file(str(tmp_path / 'x.wav'), FrontEnd()))
    with pytest.raises(ClipError, match='is too long for --hop_length=1 '):
        mel_of_file(str(tmp_path / 'x.wav'), FrontEnd(hop_length=1))


@pytest.mark.slow
def test_an_hour_of_stereo_stays_below_500_mb(tmp_path: Path) -> None:
    minute = 0.1 * np.random.default_rng(0).standard_normal((60 * 11025, 2)).astype(np.float32)
    with soundfile.SoundFile(tmp_path / 'x.wav', 'w', 11025, 2) as file:
        for _ in range(60):
            file.write(minute)
    outcome, megabytes = peak_megabytes(tmp_path / 'x.wav')
    assert int(outcome) == 1 + 3600 * RATE // 512
    assert megabytes < 500
    os.remove(tmp_path / 'x.wav')


@pytest.mark.parametrize('rate', [8000, 11025, 44100, 48000, 96000])
@pytest.mark.parametrize('size', [1, 999, 123_456])
def test_streamed_samples_equal_those_resampled_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, size: int
) -> None:
    monkeypatch.setattr(audio, '_block_frames', lambda channels: 1000)
    samples = 0.1 * np.random.default_rng(0).standard_normal(size).astype(np.float32)
    soundfile.write(tmp_path / 'x.wav', samples, rate, subtype='FLOAT')
    expected = librosa.resample(samples, orig_sr=rate, target_sr=RATE)
    np.testing.assert_array_equal(load_audio(str(tmp_path / 'x.wav'), RATE), expected)


@pytest.mark.parametrize('hop', [100, 512, 3000])
def test_a_streamed_spectrogram_equals_one_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hop: int
) -> None:
    monkeypatch.setattr(audio, '_block_frames', lambda channels: 1000)
    front_end = FrontEnd(hop_length=hop)
    samples = np.tile(NOISE, 10).astype(np.float32)
    soundfile.write(tmp_path / 'x.wav', samples, RATE, subtype='FLOAT')
    streamed = mel_of_file(str(tmp_path / 'x.wav'), front_end)
    np.testing.assert_array_equal(streamed, mel_of_samples(samples, front_end))
    # `log_mel` is more precise: where a value is halfway between two bytes, it may be the other.
    exact = mel.encode(log_mel(samples, front_end), front_end).astype(int)
    assert np.abs(streamed - exact).max() <= 1
    assert np.mean(streamed != exact) < 1e-4


# ---------------------------------------------------------------- pipes and devices
def test_a_pipe_or_a_device_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'x.wav')
    (tmp_path / 'y.mp3').symlink_to('/dev/zero')
    outcomes = []

    def read() -> None:
        for name in ('x.wav', 'y.mp3'):
            try:
                load_audio(str(tmp_path / name), RATE)
            except ClipError as error:
                outcomes.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert outcomes == ['is not a regular file'] * 2


def test_a_pipe_in_a_folder_is_skipped_with_its_reason(tmp_path: Path) -> None:
    music = write_music(tmp_path / 'music')
    os.mkfifo(music / 'hum/pipe.wav')
    out = run(music, tmp_path / 'out')
    assert 'hum/pipe.wav' in (out / 'skipped.csv').read_text()


def test_the_stated_length_of_what_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / 'x.wav').write_text('no music')
    for path in (tmp_path / 'x.wav', tmp_path / 'missing.wav', tmp_path, 'memory://x.wav'):
        assert np.isnan(stated_seconds(str(path)))
