import itertools
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from glr_jax.data.audio import load_audio
from glr_jax.data.mel import (
    FrontEnd,
    check,
    decode,
    encode,
    log_mel,
    mel_of_file,
    mel_of_samples,
)
from glr_jax.errors import ClipError, UsageError
from tests import reference

RATE = 22050


def draw(samples: int = RATE, seed: int = 0) -> np.ndarray:
    """Bursts of a tone over noise, so that both loud and floored bands occur."""
    rng, time = np.random.default_rng(seed), np.arange(samples) / RATE
    tone = np.sin(2 * np.pi * 440 * time) * (time % 0.5 < 0.3)
    return (0.5 * tone + 1e-5 * rng.standard_normal(samples)).astype(np.float32)


def sine(seconds: float, rate: int) -> np.ndarray:
    return np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize('htk', [False, True])
def test_equals_librosa_in_double_precision(htk: bool) -> None:
    power = librosa.feature.melspectrogram(
        y=draw().astype(np.float64), sr=RATE, n_fft=2048, hop_length=512, n_mels=128, htk=htk
    )
    expected = librosa.power_to_db(power, ref=np.max, top_db=80).T
    np.testing.assert_allclose(log_mel(draw(), FrontEnd(htk=htk)), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize('htk', [False, True])
def test_equals_the_reference_on_both_mel_scales(htk: bool) -> None:
    expected = reference.log_mel(draw(), htk=htk)
    np.testing.assert_allclose(log_mel(draw(), FrontEnd(htk=htk)), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize('htk', [False, True])
@pytest.mark.parametrize('ref', [0.0, 1.0])
def test_any_two_versions_of_librosa_agree_within_a_thousandth_of_a_decibel(
    htk: bool, ref: float
) -> None:
    """The one in use is within half of that of the reference, which has no librosa in it."""
    samples = draw(5 * RATE) + np.random.default_rng(1).normal(0, 0.01, 5 * RATE).astype('float32')
    expected = reference.log_mel(samples, htk=htk, top_db=200.0)
    found = log_mel(samples, FrontEnd(htk=htk, ref=ref, top_db=200.0))
    offset = (found - expected).mean() if ref else 0  # the reference's 0 dB is the peak
    np.testing.assert_allclose(found - offset, expected, rtol=0, atol=5e-4)


def test_equals_the_reference_with_other_settings() -> None:
    front_end = FrontEnd(sample_rate=8000, n_fft=512, hop_length=100, n_mels=40, top_db=50.0)
    expected = reference.log_mel(draw(), 8000, 512, 100, 40, top_db=50.0)
    np.testing.assert_allclose(log_mel(draw(), front_end), expected, rtol=0, atol=1e-3)


def test_long_clips_are_transformed_in_pieces_that_fit_together() -> None:
    samples = np.random.default_rng(0).standard_normal(64 * 5000).astype(np.float32)
    front_end = FrontEnd(n_fft=256, hop_length=64, n_mels=16)
    power = librosa.feature.melspectrogram(
        y=samples.astype(float), sr=22050, n_fft=256, hop_length=64, n_mels=16
    )
    expected = librosa.power_to_db(power, ref=power.max(), top_db=80).T
    assert len(expected) == 5001
    np.testing.assert_allclose(log_mel(samples, front_end), expected, atol=1e-3)


def test_a_fixed_power_can_be_0_db() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    absolute = FrontEnd(ref=1.0, mel_dtype='float32')
    np.testing.assert_allclose(
        log_mel(10 * noise, absolute) - log_mel(noise, absolute), 20, atol=1e-3
    )
    power = librosa.feature.melspectrogram(y=noise.astype(float), sr=RATE)
    expected = librosa.power_to_db(power, top_db=None).T
    assert expected.max() > 0
    np.testing.assert_allclose(log_mel(noise, absolute), expected, atol=1e-3)


def test_empty_mel_bands_are_a_usage_error() -> None:
    check(FrontEnd())
    with pytest.raises(UsageError, match=r'--n_fft=256 .* --n_mels=128: 20 of'):
        check(FrontEnd(n_fft=256))


def test_the_mel_scales_differ() -> None:
    slaney, htk = log_mel(draw(), FrontEnd()), log_mel(draw(), FrontEnd(htk=True))
    assert np.abs(slaney - htk).max() > 1


def test_the_peak_is_0_db_and_the_floor_80_db_below() -> None:
    mel = log_mel(draw(), FrontEnd())
    assert (mel.min(), mel.max()) == (-80, 0)


def test_loudness_does_not_matter() -> None:
    quiet, loud = log_mel(0.125 * draw(), FrontEnd()), log_mel(draw(), FrontEnd())
    np.testing.assert_allclose(quiet, loud, rtol=0, atol=1e-4)


@pytest.mark.parametrize('samples', [2048, 2559, 2560, 22050])
@pytest.mark.parametrize('hop_length', [512, 300])
def test_there_is_one_more_frame_than_hops(samples: int, hop_length: int) -> None:
    mel = log_mel(draw(samples), FrontEnd(hop_length=hop_length))
    assert mel.shape == (1 + samples // hop_length, 128)


@pytest.mark.parametrize('top_db', [80.0, 40.0])
def test_uint8_keeps_decibels_within_half_a_step(top_db: float) -> None:
    front_end = FrontEnd(top_db=top_db)
    decibels = np.linspace(-top_db, 0, 10_000, dtype=np.float32).reshape(-1, 100)
    stored = encode(decibels, front_end)
    assert stored.dtype == np.uint8
    assert (stored.min(), stored.max()) == (0, 255)
    np.testing.assert_allclose(decode(stored, front_end), decibels, rtol=0, atol=0.16 * top_db / 80)


def test_uint8_survives_a_second_encoding() -> None:
    stored = np.arange(256, dtype=np.uint8).reshape(2, 128)
    np.testing.assert_array_equal(encode(decode(stored, FrontEnd()), FrontEnd()), stored)


def test_float32_keeps_decibels_unchanged() -> None:
    front_end = FrontEnd(mel_dtype='float32')
    decibels = log_mel(draw(), front_end)
    stored = encode(decibels, front_end)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(decode(stored, front_end), decibels)


@pytest.mark.parametrize(
    ('suffix', 'channels', 'rate'),
    [
        *itertools.product(['wav', 'flac', 'ogg', 'au'], [1, 2, 6], [8000, 22050, 44100, 96000]),
        *itertools.product(['mp3'], [1, 2], [8000, 22050, 44100, 48000]),
    ],
)
def test_audio_is_read_as_the_mean_of_its_channels_at_the_requested_rate(
    tmp_path: Path, suffix: str, channels: int, rate: int
) -> None:
    gains = np.linspace(0.1, 0.6, channels)
    path = tmp_path / f'clip.{suffix}'
    soundfile.write(path, sine(0.5, rate)[:, None] * gains, rate)
    samples = load_audio(str(path), RATE)
    assert samples.dtype == np.float32
    assert samples.shape == (RATE // 2,)
    error = samples / gains.mean() - sine(0.5, RATE)
    tolerance = 0.3 if suffix in ('ogg', 'mp3') else 3e-3  # lossy, or at most 16 bits
    assert np.abs(error[2000:9000]).max() < tolerance


def test_a_file_and_its_samples_give_the_same_mel(tmp_path: Path) -> None:
    soundfile.write(tmp_path / 'clip.wav', draw(), RATE, subtype='FLOAT')
    stored = mel_of_file(str(tmp_path / 'clip.wav'), FrontEnd())
    np.testing.assert_allclose(decode(stored, FrontEnd()), log_mel(draw(), FrontEnd()), atol=0.16)


@pytest.mark.parametrize(
    ('samples', 'reason'),
    [
        (np.r_[draw(), np.nan], 'NaN'),
        (np.r_[draw(), np.inf], 'infinite'),
        (np.zeros(RATE), 'is silent'),
        (np.stack([draw(), -draw()], axis=1), 'is silent'),
        (draw(2047), r'shorter than one window \(2047 of 2048'),
        (draw(0), 'has no samples'),
    ],
    ids=['nan', 'infinity', 'silence', 'channels that cancel out', 'short', 'no samples'],
)
def test_unusable_samples_are_refused(tmp_path: Path, samples: np.ndarray, reason: str) -> None:
    soundfile.write(tmp_path / 'clip.wav', samples, RATE, subtype='FLOAT')
    with pytest.raises(ClipError, match=reason):
        mel_of_file(str(tmp_path / 'clip.wav'), FrontEnd())


@pytest.mark.parametrize('suffix', ['wav', 'flac', 'ogg', 'mp3'])
@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', r'^is empty \(0 bytes\)$'),
        (b'This is no music.\n' * 500, 'cannot be decoded as audio'),
    ],
    ids=['empty', 'text'],
)
def test_files_that_are_not_audio_are_refused(
    tmp_path: Path, suffix: str, content: bytes, words: str
) -> None:
    path = tmp_path / f'clip.{suffix}'
    path.write_bytes(content)
    with pytest.raises(ClipError, match=words):
        load_audio(str(path), RATE)


def test_a_folder_named_like_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'x.mp3').mkdir()
    with pytest.raises(ClipError, match='cannot be read: Is a directory'):
        load_audio(str(tmp_path / 'x.mp3'), RATE)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match='cannot be read'):
        load_audio(str(tmp_path / 'missing.wav'), RATE)


@pytest.mark.parametrize('suffix', ['wav', 'flac', 'ogg', 'mp3'])
@pytest.mark.parametrize('part', [0.001, 0.3, 0.99])
def test_a_truncated_file_gives_its_beginning_or_an_error(
    tmp_path: Path, suffix: str, part: float
) -> None:
    path = tmp_path / f'clip.{suffix}'
    soundfile.write(path, draw(), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    frames, reason = 0, ''
    try:
        frames = len(mel_of_file(str(path), FrontEnd()))
    except ClipError as error:
        reason = str(error)
    assert bool(frames) != bool(reason)
    assert frames <= 1 + RATE // 512


@pytest.mark.parametrize('suffix', ['au', 'snd', 'gsm', 'vox', 'raw'])
def test_a_suffix_does_not_make_a_file_audio(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f'x.{suffix}').write_bytes(b'Dear diary, ' * 500)
    with pytest.raises(ClipError, match='cannot be decoded'):
        load_audio(str(tmp_path / f'x.{suffix}'), RATE)


def test_samples_that_are_too_large_or_too_small_are_refused() -> None:
    noise = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    with pytest.raises(ClipError, match='too large'):
        log_mel(noise * 1e20, FrontEnd())
    with pytest.raises(ClipError, match='silent'):
        log_mel(noise * 1e-9, FrontEnd())


def test_quiet_bins_beside_loud_ones_are_exact_too() -> None:
    time = np.arange(2048 * 127) / RATE
    loud = np.sin(2 * np.pi * (1000 + 300 * time) * time)
    rng = np.random.default_rng(0)
    samples = (0.9 * loud + np.exp(-time) * 1e-3 * rng.standard_normal(len(time))).astype('float32')
    power = librosa.feature.melspectrogram(y=samples.astype(float), sr=RATE)
    for top_db in (80.0, 120.0):
        front_end = FrontEnd(mel_dtype='float32', top_db=top_db)
        expected = librosa.power_to_db(power, ref=power.max(), top_db=top_db).T
        for found in (log_mel(samples, front_end), mel_of_samples(samples, front_end)):
            np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize('size', [5001, 450_001])
def test_samples_that_are_not_finite_are_refused(size: int) -> None:
    samples = np.ones(size, np.float32)
    samples[size // 2] = np.nan
    with pytest.raises(ClipError, match='has NaN or infinite samples'):
        log_mel(samples, FrontEnd())
