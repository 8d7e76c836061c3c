"""Files whose header is wrong about their length are read to their real end."""

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import inspect
from glr_jax.data import lengths
from glr_jax.data.audio import load_audio, stated_seconds
from glr_jax.data.mp3 import mp3_frames
from glr_jax.errors import ClipError
from tests.conftest import run, write_music

RATE = 22050
SECONDS = 6.0


def clip() -> np.ndarray:
    """Loud noise, then a soft tone, so that a variable bit rate varies."""
    time = np.arange(int(SECONDS * RATE)) / RATE
    noise = 0.3 * np.random.default_rng(0).standard_normal(len(time))
    return np.where(time < 1.5, noise, 0.05 * np.sin(2 * np.pi * 440 * time))


def encoded(**options: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, clip(), RATE, **options)
    return file.getvalue()


def mp3() -> bytes:
    return encoded(format='MP3', bitrate_mode='VARIABLE', compression_level=0.2)


def without_description(data: bytes) -> bytes:
    """An mp3 without its first frame, which states the number of the others."""
    with io.BytesIO(data) as file:
        found = mp3_frames(file)
    assert found is not None
    assert found.stated == found.frames
    return data[found.spans[0][0] :]


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def stating(data: bytes, size: int) -> bytes:
    """A WAV that states another number of bytes."""
    at = data.index(b'data') + 4
    return data[:at] + struct.pack('<I', size) + data[at + 4 :]


def test_an_mp3_that_states_no_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / 'x.mp3', without_description(mp3()))
    stated = soundfile.info(path).duration
    assert abs(stated - SECONDS) > 1  # libsndfile guesses from the first frames
    samples = load_audio(path, RATE)
    assert abs(len(samples) / RATE - SECONDS) < 0.1
    assert stated_seconds(path) == pytest.approx(stated)


@pytest.mark.parametrize('between', [b'', b'TAG' + bytes(125), b'ID3\4\0\0\0\0\1\0' + bytes(128)])
@pytest.mark.parametrize('described', [True, False])
def test_concatenated_mp3s_are_read_to_their_end(
    tmp_path: Path, between: bytes, described: bool
) -> None:
    data = mp3() if described else without_description(mp3())
    samples = load_audio(write(tmp_path / 'x.mp3', between.join([data] * 3)), RATE)
    assert abs(len(samples) / RATE - 3 * SECONDS) < 0.3
    loud = np.abs(samples.reshape(-1)[: 3 * len(clip())]).reshape(3, -1)[:, : RATE // 2]
    assert (loud.mean(1) > 0.1).all()  # each of the three begins with noise


def test_a_good_mp3_is_read_as_libsndfile_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / 'x.mp3', mp3())
    with soundfile.SoundFile(path) as file:
        expected = file.read(
            1 << 20, dtype='float32'
        )  # the size of a block: it changes the last bit
    np.testing.assert_array_equal(load_audio(path, RATE), expected)


@pytest.mark.parametrize('junk', [b'', b'\xff\xfb' * 999, bytes(5000)])
def test_an_mp3_after_junk_has_as_many_frames(junk: bytes) -> None:
    with io.BytesIO(mp3()) as good, io.BytesIO(junk + mp3()) as bad:
        one, other = mp3_frames(good), mp3_frames(bad)
    assert one is not None
    assert other is not None
    assert one.frames == other.frames


@pytest.mark.parametrize('data', [b'', b'ID3', b'no music' * 999, b'\xff' * 5000])
def test_what_is_no_mp3_has_no_frames(data: bytes) -> None:
    assert mp3_frames(io.BytesIO(data)) is None


@pytest.mark.parametrize('size', [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF - 36])
def test_a_piped_wav_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    good = encoded(format='WAV')
    path = write(tmp_path / 'x.wav', stating(good, size))
    expected = load_audio(write(tmp_path / 'y.wav', good), RATE)
    np.testing.assert_array_equal(load_audio(path, RATE), expected)


@pytest.mark.parametrize('size', [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_piped_au_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    good = encoded(format='AU')
    path = write(tmp_path / 'x.au', good[:8] + struct.pack('>I', size) + good[12:])
    assert len(load_audio(path, RATE)) == len(clip())


def test_a_piped_rf64_is_read_to_its_end(tmp_path: Path) -> None:
    data = bytearray(encoded(format='RF64'))
    data[20:36] = bytes(16)  # the sizes of the file and of its samples
    assert len(load_audio(write(tmp_path / 'x.wav', bytes(data)), RATE)) == len(clip())
    header = bytes(data[: data.index(b'data') + 8])
    for rest in (b'', b'LIST\4\0\0\0INFO'):
        assert lengths.without_size(io.BytesIO(header + rest)) is None


def test_a_piped_flac_is_read_to_its_end(tmp_path: Path) -> None:
    data = bytearray(encoded(format='FLAC'))
    data[21] &= 0xF0  # the number of samples: 36 bits
    data[22:26] = bytes(4)
    assert len(load_audio(write(tmp_path / 'x.flac', bytes(data)), RATE)) == len(clip())


@pytest.mark.parametrize(('subtype', 'rate'), [('VORBIS', RATE), ('OPUS', 24000)])
def test_ogg_streams_in_a_row_are_read_to_their_end(
    tmp_path: Path, subtype: str, rate: int
) -> None:
    soundfile.write(tmp_path / 'x.ogg', clip(), rate, format='OGG', subtype=subtype)
    path = write(tmp_path / 'y.ogg', 3 * (tmp_path / 'x.ogg').read_bytes())
    expected = load_audio(str(tmp_path / 'x.ogg'), rate)
    np.testing.assert_array_equal(load_audio(path, rate), np.tile(expected, 3))


ID3 = b'ID3\4\0\0\0\0\1\0' + bytes(128)
PICTURE = b'\6\0\1\0' + b'fLaC\0\0\0\x22' + bytes(248)  # a metadata block that is no stream


def with_picture(flac: bytes) -> bytes:
    """The stream with another metadata block after STREAMINFO."""
    assert not flac[4] & 128
    return flac[:42] + PICTURE + flac[42:]


@pytest.mark.parametrize('before', [b'', ID3])
@pytest.mark.parametrize('piped', [False, True])
@pytest.mark.parametrize('change', [bytes, with_picture])
def test_flac_streams_in_a_row_are_read_to_their_end(
    tmp_path: Path, before: bytes, piped: bool, change: Callable[[bytes], bytes]
) -> None:
    data = bytearray(encoded(format='FLAC'))
    expected = load_audio(write(tmp_path / 'x.flac', bytes(data)), RATE)
    if piped:  # none states its number of samples
        data[21] &= 0xF0
        data[22:26] = bytes(4)
    stream = change(bytes(data))
    path = write(tmp_path / 'y.flac', before + 3 * stream)
    np.testing.assert_array_equal(load_audio(path, RATE), np.tile(expected, 3))
    np.testing.assert_array_equal(load_audio(write(Path(path), before + stream), RATE), expected)


def test_the_streams_of_a_flac_file_are_found_at_any_place() -> None:
    one = encoded(format='FLAC')[:20_000]
    for piece in (1, 5, len(one) - 3, len(one), 3 * len(one)):
        found = lengths.flac_streams(io.BytesIO(2 * one), piece)
        assert found == [(0, 20_000), (20_000, 40_000)]
    assert lengths.flac_streams(io.BytesIO(b'fLaC')) == [(0, 4)]


def test_streams_beyond_a_limit_are_refused(tmp_path: Path) -> None:
    head = encoded(format='FLAC')[:42]  # opening each would take memory
    last = head[:4] + bytes([head[4] | 128]) + head[5:]
    with pytest.raises(ClipError, match='has 300 streams; at most 256 are read'):
        load_audio(write(tmp_path / 'x.flac', 300 * last), RATE)


def test_a_wav_without_samples_stays_empty(tmp_path: Path) -> None:
    data = encoded(format='WAV')
    head = stating(data[: data.index(b'data') + 8], 0)
    for rest in (b'', b'LIST\4\0\0\0INFO', b'LIST\3\0\0\0abc\0'):
        assert lengths.without_size(io.BytesIO(head + rest)) is None


@pytest.mark.parametrize(
    ('name', 'make', 'stated', 'read'),
    [
        ('cut.wav', lambda: encoded(format='WAV')[:-88200], 6.0, 4.0),
        ('appended.mp3', lambda: 2 * mp3(), 6.0, 12.0),
        ('radio.ogg', lambda: 2 * encoded(format='OGG'), 6.0, 12.0),
    ],
)
def test_inspect_shows_lengths_that_are_not_as_stated(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    make: Callable[[], bytes],
    stated: float,
    read: float,
) -> None:
    music = write_music(tmp_path / 'music')
    write(music / 'hum' / name, make())
    out = run(music, tmp_path / 'out')
    said = f'1 clip is longer or shorter than stated in the file; see {out / "lengths.csv"}'
    assert said in capsys.readouterr().out.splitlines()
    inspect.main(['inspect', str(out)])
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if line.endswith(f'  hum/{name}'))
    numbers = [float(word) for word in line.split()[:2]]
    assert numbers == pytest.approx([stated, read], abs=0.15)


@pytest.mark.parametrize('kind', ['WAV', 'AU', 'OGG', 'MP3', 'FLAC'])
def test_damaged_files_give_samples_or_a_reason(tmp_path: Path, kind: str) -> None:
    good = 2 * (mp3() if kind == 'MP3' else encoded(format=kind))[:30_000]
    rng = np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(good[: rng.integers(1, len(good))])
        for place in rng.integers(0, min(len(data), rng.choice([50, 10**6])), 5):
            data[place] = rng.choice([0, 255, rng.integers(256)])
        with io.BytesIO(data) as file:
            spans = lengths.ogg_streams(file)
            assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
            lengths.without_size(file)
            lengths.wav_sizes(file)
            found = mp3_frames(file)
            assert found is None or all(0 <= a < b <= len(data) for a, b in found.spans)
        with contextlib.suppress(ClipError):
            assert len(load_audio(write(tmp_path / f'x.{kind.lower()}', bytes(data)), RATE))


def test_there_is_no_table_of_lengths_if_all_are_as_stated(prepared: Path) -> None:
    assert not (prepared / 'lengths.csv').exists()
    assert inspect.length_table(str(prepared)) == ''


@pytest.mark.parametrize('kept', [20, 58, 100, 0.5])
def test_an_ogg_file_that_is_cut_within_its_headers_is_named(tmp_path: Path, kept: float) -> None:
    path = tmp_path / 'x.ogg'
    soundfile.write(path, np.zeros(8000), 8000)
    content = path.read_bytes()
    second = 58 + 27  # the page of the comments and the codebooks, which is long
    end = 58 + 27 + content[second - 1] + sum(content[second : second + content[second - 1]])
    path.write_bytes(content[: int(kept * end) if kept < 1 else int(kept)])
    reason = 'is cut off before its first sample' if kept > 27 or kept < 1 else 'cannot be decoded'
    with pytest.raises(ClipError, match=reason):
        load_audio(str(path), 8000)
