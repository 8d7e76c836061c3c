"""The parsers that are fuzzed: whole inputs of each, and how it reads one."""

import functools
import io
import json
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from data_prep import fma, id3, listed, replace, shards
from data_prep.arrays import arrays_clips
from glr_jax import cli, fields, flagfiles, json_files, report
from glr_jax.config import Config
from glr_jax.data import example, ffmpeg, lengths, mel
from glr_jax.data.dataset import open_dataset
from glr_jax.data.mel import FrontEnd
from glr_jax.data.mp3 import mp3_frames
from glr_jax.data.split_table import read_split_table
from glr_jax.data.tables import read_table
from glr_jax.data.tfrecord import RecordFile
from glr_jax.run import intact, training_data, workdir
from tests.torture import commands

FORMATS = ('wav', 'flac', 'ogg', 'mp3', 'aiff', 'au', 'caf', 'w64')


class Parser(NamedTuple):
    """Something that reads input from elsewhere.

    Attributes:
      name: for the table.
      seeds: whole inputs.
      read: reads one.
      share: of all inputs.
    """

    name: str
    seeds: Sequence[bytes]
    read: Callable[[bytes], Any]
    share: float = 1.0


def all_parsers(folder: Path) -> list[Parser]:
    """Every parser, on a dataset `data`, a run `run` and a part `part` in the folder."""
    data, run, at = folder / 'data', folder / 'run', folder / 'fuzzed'
    at.mkdir()
    read = lambda path: [(path).read_bytes()]
    shard = data / 'music-clips.tfrecord-00000-of-00003'
    record = RecordFile(str(shard))[0]
    table, music = (data / 'splits.csv').read_bytes(), at / 'music'
    labels = ('blues', 'jazz', 'rock')
    listing = b'path,label,group,split\njazz/a.wav,jazz,x,train\nb.wav;"a, ""n""",,test\n'
    tracks = b',artist,set,set,track\n,id,split,subset,genre_top\nid,,,,\n2,1,training,small,Rock\n'
    config = json.dumps(fields.to_dict(Config(workdir='w'))).encode()
    flagfile = b'--workdir=runs/a # mine\n--data.frames="640"\n\'--seed=3\'\n--model.kind=cnn\n'
    step = intact.steps(str(run / 'checkpoints'))[0]
    meta = run / 'checkpoints' / str(step) / 'meta' / 'metadata'
    (note, *_) = sorted((folder / 'part' / '.unfinished').glob('*.json'))
    names = json.dumps(json_files.sealed({'names': ['splits.csv', 'front_end.json']})).encode()

    def written(path: Path, use: Callable[[str], Any]) -> Callable[[bytes], Any]:
        def read(content: bytes) -> Any:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return use(str(path))

        return read

    def inside(place: Path, name: str, use: Callable[[str], Any]) -> Parser:
        """A file of a dataset or run that is otherwise whole."""
        copy = Path(commands.fresh(str(at / name.replace('/', '-')), str(place)))
        return Parser(name, read(place / name), written(copy / name, lambda _: use(str(copy))))

    spectrograms = folder / 'source.npz'
    return [
        Parser('tables', [table, listing], written(at / 'a.csv', lambda p: read_table(p, ('id',)))),
        Parser('splits.csv', [table], written(at / 'b.csv', lambda p: read_split_table(p, labels))),
        Parser(
            'metadata.csv',
            [listing],
            written(music / 'metadata.csv', lambda p: listed.listed_clips(str(music), id)),
        ),
        Parser('tracks.csv', [tracks], written(at / 'tracks.csv', fma._read_tracks)),
        Parser('flagfiles', [flagfile], written(at / 'a.flags', _flags_in), 1.5),
        Parser('flags', flagfile.splitlines(), _flags),
        Parser('config fields', [config], _fields),
        Parser('JSON', [config, names], lambda x: json_files.parse_object(x, 'a.json', 'repair')),
        inside(data, 'features.json', _open_dataset),
        inside(data, 'dataset_info.json', _open_dataset),
        inside(data, 'front_end.json', _open_dataset),
        inside(data, 'label.labels.txt', _open_dataset),
        inside(run, 'config.json', workdir.read_config),
        inside(run, 'data.json', training_data.read),
        inside(run, 'metrics.jsonl', workdir.read_log),
        inside(run, 'report/metrics.json', report.read),
        Parser('checkpoint meta', read(meta), written(_meta_path(at, 7), lambda _: _meta(at, 7))),
        Parser('notes of data_prep', read(note), written(at / 'note.json', shards.read_note)),
        Parser('finished successor', [names], written(at / 'complete.json', replace._names_in)),
        Parser('records', read(shard), written(at / 'a.tfrecord', _records), 2),
        Parser('examples', [record], lambda x: example.parse(x, 8, np.dtype('uint8')), 3),
        Parser('audio lengths', [*map(audio, ('wav', 'ogg', 'mp3', 'au'))], _lengths, 3),
        Parser('id3', [_id3()], lambda x: id3.read_id3(io.BytesIO(x)), 2),
        Parser('arrays', read(spectrograms), written(at / 'a.npz', _arrays), 1),
        *(
            Parser(f'{kind} audio', [audio(kind)], written(at / f'a.{kind}', _mel), 0.5)
            for kind in FORMATS
        ),
        Parser('audio, ffmpeg', [audio('wav')], written(at / 'a.m4a', _mel_with_ffmpeg), 0.03),
    ]


def _open_dataset(folder: str) -> None:
    """Opens a dataset and closes its files."""
    for file in open_dataset(folder)._files:
        file.close()


def _flags_in(path: str) -> Any:
    return cli.parse(Config, ['train', *flagfiles.expand([f'--flagfile={path}'])], 'usage')


def _flags(content: bytes) -> Any:
    arguments = os.fsdecode(content).replace('\0', '').split('\n')
    if not any(argument in ('--help', '-h') for argument in arguments):
        return cli.parse_with_arguments(Config, ['train', *arguments], 'usage')
    return None


def _fields(content: bytes) -> Any:
    """As `read_config` does, which turns these errors into one line."""
    try:
        return fields.from_dict(Config, json_files.parse_object(content, 'config.json', 'repair'))
    except (AttributeError, TypeError):
        return None


def _meta_path(folder: Path, step: int) -> Path:
    return folder / str(step) / 'meta' / 'metadata'


def _meta(folder: Path, step: int) -> Any:
    from glr_jax.run import checkpoint

    return checkpoint._meta(str(folder), step)


def _records(path: str) -> Any:
    file = RecordFile(path)
    try:
        return [file[k] for k in range(len(file))], file.checksums()
    finally:
        file.close()


def _lengths(content: bytes) -> Any:
    file = io.BytesIO(content)
    mended = lengths.without_size(file)
    if mended:
        mended.read(100)
    found = lengths.wav_sizes(file), lengths.ogg_streams(file), mp3_frames(file)
    assert all(0 <= start <= end for start, end in found[1])
    return found


def _arrays(path: str) -> Any:
    clips = arrays_clips(path)
    return [clip.mel(FrontEnd()) for clip in clips[:3]]


def _mel(path: str) -> Any:
    found, ffmpeg.find = ffmpeg.find, lambda: None
    try:
        return mel.mel_of_file(path, FrontEnd())
    finally:
        ffmpeg.find = found


def _mel_with_ffmpeg(path: str) -> Any:
    return mel.mel_of_file(path, FrontEnd())


@functools.cache
def audio(kind: str) -> bytes:
    """A fifth of a second of noise as a file of a format."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((4410, 2))
    file = io.BytesIO()
    soundfile.write(file, noise, 22050, format=kind)
    return file.getvalue()


def _id3() -> bytes:
    frames = b''.join(
        name + struct.pack('>I', len(text) + 1) + b'\0\0\x03' + text
        for name, text in ((b'TCON', b'Jazz'), (b'APIC', b'x' * 50), (b'TPE1', b'Someone'))
    )
    return b'ID3\x03\0\0' + bytes([0, 0, len(frames) >> 7, len(frames) & 127]) + frames
