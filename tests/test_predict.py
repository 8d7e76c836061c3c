"""`predict` at scale: files that resume, rows over time, embeddings, a threshold, genres."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

import glr_jax
from glr_jax import audio_paths, cli, predict, prediction_files, predictions, tag_files
from glr_jax.errors import UsageError, UserError
from glr_jax.tagger import Tagger

Run = Callable[..., tuple[str, str]]


@pytest.fixture(scope='module')
def tagger(tones_run: Path) -> Tagger:
    return glr_jax.load(tones_run)


@pytest.fixture
def tag(
    tones_run: Path, tagger: Tagger, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> Run:
    """Runs the command in this process; what it prints on stdout and stderr."""
    monkeypatch.setattr('glr_jax.tag_audio.load', lambda *_: tagger)  # restored once

    def run(*arguments: object) -> tuple[str, str]:
        capfd.readouterr()
        predict.main(['predict', f'--workdir={tones_run}', *map(str, arguments)])
        return capfd.readouterr()

    return run


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, with their probabilities as columns."""
    if path.suffix == '.csv':
        with open(path, newline='') as file:
            return list(csv.DictReader(file))
    if path.suffix == '.parquet':
        return pyarrow.parquet.read_table(path).to_pylist()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row | row.pop('probabilities') for row in rows]


@pytest.mark.parametrize(
    'suffix', ['jsonl', *(pytest.param(x, marks=pytest.mark.slow) for x in ('csv', 'parquet'))]
)
def test_a_file_is_continued_after_what_is_in_it(
    tag: Run, tones: Path, tmp_path: Path, suffix: str, tagger: Tagger
) -> None:
    out = tmp_path / f'tags.{suffix}'
    _, err = tag(f'--out={out}', tones / 'low')
    assert err.splitlines()[-1] == f'{out} has 10 files, 10 of them new'
    _, err = tag(f'--out={out}', tones / 'high', tones / 'low')
    assert f'{out} has 10 of 20 files already' in err
    assert err.splitlines()[-1] == f'{out} has 20 files, 10 of them new'
    rows = rows_of(out)
    assert [row['decision'] for row in rows] == ['low'] * 10 + ['high'] * 10
    assert list(rows[0]) == ['path', 'decision', 'high', 'low', 'middle']
    found = tagger(rows[3]['path'])
    for label, probability in found.probabilities.items():
        assert float(rows[3][label]) == pytest.approx(probability, abs=1e-5)
    before = out.read_bytes()
    _, err = tag(f'--out={out}', tones / 'high', tones / 'low')
    assert err.splitlines()[-1] == f'{out} has 20 files, 0 of them new'
    assert out.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == [out.name, f'{out.name}.made_with.json']


@pytest.mark.parametrize('flags', [[], ['--over_time', '--data.test_crops=3']])
@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_a_torn_last_line_is_written_again(
    tag: Run, tones: Path, tmp_path: Path, suffix: str, flags: list[str]
) -> None:
    files = [tones / 'low' / f'{k}.wav' for k in range(4)]
    odd = tmp_path / 'two\nlines, "quoted".wav'
    shutil.copy(tones / 'low' / '5.wav', odd)
    whole, out = tmp_path / f'whole.{suffix}', tmp_path / f'tags.{suffix}'
    tag(f'--out={whole}', *flags, *files, odd)
    content = whole.read_bytes()
    log = out
    if suffix == 'parquet':
        log = tmp_path / 'tags.parquet.partial.jsonl'
        tag(f'--out={tmp_path}/rows.jsonl', *flags, *files, odd)
        content = (tmp_path / 'rows.jsonl').read_bytes()
    note = json.loads((tmp_path / f'{whole.name}.made_with.json').read_text())
    (tmp_path / f'{out.name}.made_with.json').write_text(json.dumps(note))
    for cut in (9, len(content) // 2, len(content) - 30, len(content) - 1):
        out.unlink(missing_ok=True)
        log.write_bytes(content[:cut])
        tag(f'--out={out}', *flags, *files, odd)
        assert rows_of(out) == rows_of(whole)


def test_a_row_that_is_damaged_in_the_middle_is_named(
    tag: Run, tones: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'tags.csv'
    tag(f'--out={out}', tones / 'low')
    lines = out.read_bytes().splitlines(keepends=True)
    lines[4] = b'\0\0\0\r\n'
    out.write_bytes(b''.join(lines))
    with pytest.raises(UserError, match=rf'{out}: row 5 is damaged; mend it, or choose another'):
        tag(f'--out={out}', tones / 'low')


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--over_time'], '--over_time=False \\(not True\\); choose another --out'),
        (['--threshold=0.5'], '--threshold=0.0 \\(not 0.5\\)'),
        (['--data.test_crops=2'], '--data.test_crops=0 \\(not 2\\)'),
    ],
)
def test_a_file_of_other_flags_is_refused(
    tag: Run, tones: Path, tmp_path: Path, flags: list[str], words: str
) -> None:
    out = tmp_path / 'tags.csv'
    tag(f'--out={out}', tones / 'low' / '1.wav')
    before = out.read_bytes()
    with pytest.raises(UserError, match=f'{out} was made with {words}'):
        tag(f'--out={out}', *flags, tones / 'low')
    assert out.read_bytes() == before


def test_a_file_of_another_run_or_of_somebody_else_is_refused(
    tag: Run, tones: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'tags.csv'
    out.write_text('path,decision\n')
    with pytest.raises(UserError, match=r'made_with.json, which would say .* was not found'):
        tag(f'--out={out}', tones / 'low' / '1.wav')
    out.unlink()
    tag(f'--out={out}', tones / 'low' / '1.wav')
    note = tmp_path / 'tags.csv.made_with.json'
    note.write_text(json.dumps(json.loads(note.read_text()) | {'workdir': ['/a at step 3']}))
    with pytest.raises(UserError, match=r'made with --workdir=/a at step 3 \(not /.* at step 18'):
        tag(f'--out={out}', tones / 'low' / '1.wav')


def test_a_damaged_parquet_file_is_refused(tag: Run, tones: Path, tmp_path: Path) -> None:
    out = tmp_path / 'tags.parquet'
    tag(f'--out={out}', tones / 'low' / '1.wav')
    out.write_bytes(out.read_bytes()[:-9])
    with pytest.raises(UserError, match=f'{out} is damaged'):
        tag(f'--out={out}', tones / 'low')


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='this system has no /dev/full')
def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    out = str(tmp_path / 'tags.jsonl')
    with (
        open('/dev/full', 'wb', buffering=0) as full,
        prediction_files.opened(out, '--out', ['path'], {}) as output,
    ):
        with pytest.raises(OSError, match='No space left') as failure:
            output._replace(file=full).add('x.wav', [{'path': 'x.wav'}])
        assert failure.value.filename == out
        assert not output.stored


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='this system has no /dev/full')
def test_a_full_disk_names_the_backup_of_the_tags() -> None:
    with pytest.raises(OSError, match='No space left') as failure:
        tag_files.back_up('/dev/full', 'x.mp3', tag_files.Genre(['rock'], True), ['metal'])
    assert failure.value.filename == '/dev/full'


def test_two_commands_do_not_write_one_file(tag: Run, tones: Path, tmp_path: Path) -> None:
    out = str(tmp_path / 'tags.csv')
    with (
        prediction_files.opened(out, '--out', ['path'], {}),
        pytest.raises(UserError, match=f'{out} is in use by .*, or choose another --out'),
    ):
        tag(f'--out={out}', tones / 'low')


@pytest.mark.parametrize('format', ['table', 'json', 'csv'])
def test_over_time_gives_a_row_per_segment(
    tag: Run, tones: Path, tmp_path: Path, format: str, tagger: Tagger
) -> None:
    parts = [soundfile.read(tones / name / '3.wav')[0][:22050] for name in ('low', 'high')]
    soundfile.write(tmp_path / 'both.wav', np.concatenate(parts * 2), 22050)
    out, _ = tag('--over_time', f'--format={format}', tmp_path / 'both.wav')
    moments = tagger(tmp_path / 'both.wav').over_time()
    assert len(moments) > 3
    if format == 'table':
        lines = out.splitlines()
        assert len(lines) == len(moments)
        assert re.search(rf' 0\.0-{moments[0].end:.1f} s  {tmp_path}/both\.wav$', lines[0])
        return
    rows = json.loads(out) if format == 'json' else list(csv.DictReader(out.splitlines()))
    assert [(float(row['start']), row['decision']) for row in rows] == [
        (pytest.approx(each.start, abs=1e-3), each.label) for each in moments
    ]


def test_below_the_threshold_there_is_no_decision(tag: Run, tones: Path, tmp_path: Path) -> None:
    path = tones / 'low' / '3.wav'
    out, _ = tag('--threshold=0.9999', path)
    assert out.split()[0] == 'unsure'
    assert out.split()[1] == 'low'
    (row,) = csv.DictReader(tag('--threshold=0.9999', '--format=csv', path)[0].splitlines())
    assert (row['decision'], float(row['low']) > 0.3) == ('', True)
    (found,) = json.loads(tag('--threshold=0.9999', '--format=json', path)[0])
    assert found['decision'] is None
    tag('--threshold=0.9999', f'--out={tmp_path}/x.parquet', path)
    assert rows_of(tmp_path / 'x.parquet')[0]['decision'] is None
    assert json.loads(tag('--threshold=0.1', '--format=json', path)[0])[0]['decision'] == 'low'


@pytest.fixture(scope='module')
def several(tagged_run: Path, chords: Path) -> Tagger:
    """A network for several labels per clip, with thresholds that decide two for `3.wav`."""
    tagger = glr_jax.load(tagged_run)
    found = tagger(chords / '3.wav').probabilities
    least = min(found, key=found.__getitem__)
    tagger.thresholds = tuple(p + (1e-3 if name == least else -1e-3) for name, p in found.items())
    return tagger


@pytest.fixture
def tag_several(tag: Run, several: Tagger, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr('glr_jax.tag_audio.load', lambda *_: several)
    return tag


def test_several_labels_are_decided_at_their_thresholds(
    tag_several: Run, several: Tagger, chords: Path
) -> None:
    path = chords / '3.wav'
    found = several(path)
    first, second = found.decided
    (row,) = json.loads(tag_several('--format=json', path)[0])
    assert row['decision'] == [first, second]
    assert list(row['probabilities']) == ['high', 'low', 'middle']
    (cells,) = csv.DictReader(tag_several('--format=csv', path)[0].splitlines())
    assert cells['decision'] == f'{first}|{second}'
    (other,) = set(found.labels) - {first, second}
    shown = [f'{name} {found.probabilities[name]:.1%}'.split() for name in (first, second, other)]
    words = tag_several('--top=3', path)[0].split()
    assert words == [*shown[0], *shown[1], '|', *shown[2], str(path)]
    assert tag_several('--top=1', path)[0].split() == [*shown[0], *shown[1], str(path)]


def test_a_threshold_replaces_those_of_every_label(
    tag_several: Run, several: Tagger, chords: Path
) -> None:
    path, none = chords / '3.wav', '--threshold=1'
    assert tag_several(none, path)[0].split()[:2] == ['unsure', '|']
    assert json.loads(tag_several(none, '--format=json', path)[0])[0]['decision'] == []
    (cells,) = csv.DictReader(tag_several(none, '--format=csv', path)[0].splitlines())
    assert cells['decision'] == ''
    (row,) = json.loads(tag_several('--threshold=0.001', '--format=json', path)[0])
    assert row['decision'] == [label for label, _ in several(path).top(3)]


@pytest.mark.parametrize('flags', [[], ['--over_time']])
@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_a_file_with_several_labels_per_clip_is_continued(
    tag_several: Run, several: Tagger, chords: Path, tmp_path: Path, suffix: str, flags: list[str]
) -> None:
    out, files = tmp_path / f'tags.{suffix}', [chords / f'{k}.wav' for k in range(8)]
    tag_several(f'--out={out}', *flags, *files[:4])
    _, err = tag_several(f'--out={out}', *flags, *files)
    assert err.splitlines()[-1].startswith(f'{out} has 8 files, ')
    wanted = []
    for found in several(files):
        each = [moment.decided for moment in found.over_time()] if flags else [found.decided]
        wanted += [list(labels) if suffix == 'jsonl' else '|'.join(labels) for labels in each]
    assert [row['decision'] for row in rows_of(out)] == wanted


def test_all_decided_labels_are_written_as_genres(
    tag_several: Run, several: Tagger, chords: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    samples, rate = soundfile.read(chords / '3.wav')
    for kind in ('flac', 'ogg', 'wav'):
        soundfile.write(f'song.{kind}', samples, rate)
    names = ['song.flac', 'song.ogg', 'song.wav']
    before = [Path(name).read_bytes() for name in names]
    out, _ = tag_several('--write_tags', '--apply', *names)
    for name, line in zip(names, out.splitlines(), strict=True):
        genres = tag_files.read(name).values
        assert genres == list(several(name).decided) != []
        assert line == f'{name}: no genre -> {", ".join(map(repr, genres))}'
    assert len(tag_files.read('song.flac').values) == 2
    predict.main(['predict', '--restore_tags=tags_backup.jsonl', '--apply'])
    assert [tag_files.read(name).values for name in names] == [[]] * 3
    assert Path('song.wav').read_bytes() == before[2]


@pytest.mark.slow
def test_embeddings_go_into_a_file_beside_the_rows(
    tag: Run, tones: Path, tmp_path: Path, tagger: Tagger
) -> None:
    flags = [f'--out={tmp_path}/tags.csv', f'--embeddings={tmp_path}/e.npz']
    tag(*flags, tones / 'low')
    tag(*flags, tones / 'low', tones / 'high')
    with np.load(tmp_path / 'e.npz') as arrays:
        paths, embeddings = arrays['path'].tolist(), arrays['embedding']
    assert paths == [row['path'] for row in rows_of(tmp_path / 'tags.csv')]
    assert (len(paths), embeddings.dtype) == (20, np.float32)
    np.testing.assert_allclose(embeddings[13], tagger(paths[13]).embedding, rtol=1e-4, atol=1e-5)
    tag(f'--out={tmp_path}/tags.csv', tones)  # without them
    tag(*flags, tones)
    with np.load(tmp_path / 'e.npz') as arrays:
        assert len(arrays['path']) == 30
    assert len(rows_of(tmp_path / 'tags.csv')) == 30


@pytest.mark.parametrize('suffix', ['jsonl', 'parquet'])
def test_embeddings_as_a_column(
    tag: Run, tones: Path, tmp_path: Path, suffix: str, tagger: Tagger
) -> None:
    out, path = tmp_path / f'tags.{suffix}', tones / 'low' / '3.wav'
    tag(f'--out={out}', '--embeddings=column', path)
    np.testing.assert_allclose(rows_of(out)[0]['embedding'], tagger(path).embedding, rtol=1e-5)


@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_a_name_that_is_not_utf8_can_be_opened_from_its_row(
    tag: Run, tones: Path, tmp_path: Path, suffix: str
) -> None:
    (tmp_path / 'music').mkdir()
    names = [b'caf\xe9.wav', rb'caf\xe9.wav', rb'back\slash.wav', b'\\\xe9.wav', 'é.wav'.encode()]
    for name in names:
        shutil.copy(tones / 'low' / '0.wav', os.fsencode(tmp_path / 'music') + b'/' + name)
    out, npz = tmp_path / f'tags.{suffix}', tmp_path / 'e.npz'
    flags = [f'--out={out}', f'--embeddings={npz}', tmp_path / 'music']
    tag(*flags)
    if suffix != 'parquet':
        out.read_bytes().decode()
    found = [str(row['path']) for row in rows_of(out)]
    opened = [audio_paths.read(path) for path in found]
    assert all(map(os.path.isfile, opened))
    assert {os.path.basename(os.fsencode(path)) for path in opened} == set(names)
    assert f'{tmp_path}/music/é.wav' in found
    assert rf'{tmp_path}/music/caf\xe9.wav' in found
    with np.load(npz) as arrays:
        assert arrays['path'].tolist() == found
    _, err = tag(*flags)
    assert err.splitlines()[-1] == f'{out} has 5 files, 0 of them new'


@pytest.mark.parametrize('format', ['json', 'csv'])
def test_rows_on_stdout_escape_names_as_files_do(
    tag: Run, tones: Path, tmp_path: Path, format: str
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9.wav')
    shutil.copy(tones / 'low' / '0.wav', odd)
    out, _ = tag(f'--format={format}', odd)
    rows = json.loads(out) if format == 'json' else list(csv.DictReader(out.splitlines()))
    assert [row['path'] for row in rows] == [rf'{tmp_path}/caf\xe9.wav']


@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_another_spelling_of_a_path_adds_no_row(
    tag: Run, tones: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'music').mkdir()
    (tmp_path / 'linked').symlink_to('music')
    shutil.copy(tones / 'low' / '0.wav', tmp_path / 'music' / 'a.wav')
    shutil.copy(tones / 'low' / '1.wav', tmp_path / 'music' / 'b.wav')
    (tmp_path / 'music' / 'link.wav').symlink_to('a.wav')
    monkeypatch.chdir(tmp_path)
    out = f'tags.{suffix}'
    tag(f'--out={out}', 'music/a.wav', './music/a.wav', tmp_path / 'music' / 'a.wav')
    assert [row['path'] for row in rows_of(Path(out))] == ['music/a.wav']
    _, err = tag(f'--out={out}', tmp_path / 'music', 'linked')
    assert f'{out} has 1 of 3 files already' in err
    new = [str(tmp_path / 'music' / name) for name in ('b.wav', 'link.wav')]
    assert [row['path'] for row in rows_of(Path(out))] == ['music/a.wav', *new]
    _, err = tag(f'--out={out}', 'music', tmp_path / 'linked')
    assert err.splitlines()[-1] == f'{out} has 3 files, 0 of them new'


def test_labels_may_be_called_as_columns_are(tmp_path: Path) -> None:
    shape = predictions.Shape(('path', 'rock'))
    assert predictions.columns(shape) == ['path', 'decision', 'probability of path', 'rock']


def test_a_missing_file_among_good_ones_is_one_line(tag: Run, tones: Path, capfd: Any) -> None:
    with pytest.raises(UserError, match=r'2 of 3 files could not be tagged'):
        tag('no.wav', tones / 'low' / '3.wav', 'no/folder')
    out, err = capfd.readouterr()
    assert out.endswith(f'{tones}/low/3.wav\n')
    assert err.splitlines()[-2:] == ['no.wav was not found', 'no/folder was not found']


@pytest.mark.parametrize('workers', [1, 2])
def test_a_file_that_is_cut_off_is_tagged_and_named_with_both_lengths(
    tag: Run, tones: Path, tmp_path: Path, workers: int
) -> None:
    whole = (tones / 'low' / '3.wav').read_bytes()
    path = tmp_path / 'cut.wav'
    path.write_bytes(whole[: len(whole) // 2])
    out, err = tag(path, tones / 'low' / '3.wav', f'--num_workers={workers}')
    assert len(out.splitlines()) == 2
    (line,) = (line for line in err.splitlines() if line.startswith(f'{path}: '))
    found = re.fullmatch(
        r'.*: states (\S+) s, but only (\S+) s could be read; it may be cut off', line
    )
    assert found
    stated = soundfile.info(tones / 'low' / '3.wav').duration
    assert float(found[1]) == pytest.approx(stated, abs=0.01)
    assert float(found[2]) == pytest.approx(stated / 2, abs=0.05)
    assert '3.wav: states' not in err


def test_processes_give_the_same_rows_in_the_same_order(tag: Run, tones: Path) -> None:
    alone, _ = tag('--format=csv', '--num_workers=1', tones)
    several, err = tag('--format=csv', '--num_workers=2', tones)
    assert several == alone
    assert 'loading the model' in err
    assert 'tagging: 30 of 30 clips in 0:' in err


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--out=x.txt'], '--out=x.txt must end in .csv, .jsonl, or .parquet'),
        (['--out=gs://b/x.csv'], 'must be a local folder'),
        (['--threshold=2'], '--threshold=2.0 must be at least 0 and at most 1'),
        (['--embeddings=x.npz'], '--embeddings needs --out'),
        (['--embeddings=x.h5', '--out=x.csv'], 'must end in .npz, or be column'),
        (['--embeddings=column', '--out=x.csv'], 'needs --out=FILE.jsonl'),
        (['--embeddings=column', '--out=x.jsonl', '--over_time'], 'omit --over_time'),
        (['--write_tags', '--out=x.csv'], '--write_tags excludes --out'),
        (['--apply'], '--apply needs --write_tags'),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        predict.main(['predict', '--workdir=w', *flags, 'x.wav'])


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--out=no/x.csv'], '--out=no/x.csv: the folder no was not found'),
        (['--out=x.csv', '--embeddings=no/x.npz'], '--embeddings=no/x.npz: the folder no'),
        (['--write_tags', '--apply', '--tags_backup=no/x'], '--tags_backup=no/x: the folder no'),
        (['--restore_tags=no.jsonl'], '--restore_tags=no.jsonl was not found'),
    ],
)
def test_files_that_cannot_be_written_are_known_at_once(flags: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        predict.main(['predict', '--workdir=w', *flags, 'x.wav'])


@pytest.mark.parametrize('name', ['out', 'embeddings', 'tags_backup'])
def test_a_place_without_write_permission_is_named_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / {'out': 'x.csv', 'embeddings': 'x.npz', 'tags_backup': 'x.jsonl'}[name]
    flags = {'embeddings': ['--out=x.csv'], 'tags_backup': ['--write_tags', '--apply']}
    monkeypatch.setattr(os, 'access', lambda place, mode: place != str(tmp_path))
    with pytest.raises(UserError) as failure:
        predict.main(['predict', '--workdir=w', f'--{name}={path}', *flags.get(name, []), 'x.wav'])
    assert str(failure.value) == (
        f'--{name}={path}: no permission to write there; choose another --{name}'
    )


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='this system has no /proc')
@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
def test_a_place_that_turns_out_unwritable_is_named_as_it_was_given(suffix: str) -> None:
    place = rf'--out=/proc/self/x\.{suffix} cannot be written: .*; choose another --out'
    with (
        pytest.raises(UserError, match=f'^{place}$'),
        prediction_files.opened(f'/proc/self/x.{suffix}', '--out', ['path'], {}),
    ):
        pass


def test_write_tags_shows_writes_and_restores(
    tag: Run, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for k in range(3):
        samples, rate = soundfile.read(tones / 'low' / f'{k}.wav')
        soundfile.write(f'{k}.mp3', samples, rate)
    os.chmod('2.mp3', 0o444)
    before = Path('0.mp3').read_bytes()
    with pytest.raises(UserError, match='1 of 3 files could not be tagged'):
        tag('--write_tags', tmp_path)
    assert Path('0.mp3').read_bytes() == before
    out, err = tag('--write_tags', '--apply', '0.mp3', '1.mp3')
    assert out.splitlines() == ["0.mp3: no genre -> 'low'", "1.mp3: no genre -> 'low'"]
    assert 'what it was is in tags_backup.jsonl' in err
    assert tag_files.read('0.mp3').values == ['low']
    predict.main(['predict', '--restore_tags=tags_backup.jsonl', '--apply'])
    assert Path('0.mp3').read_bytes() == before


def start(*arguments: object, **options: Any) -> subprocess.Popen:
    command = [sys.executable, '-m', 'glr_jax.predict', *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.slow
def test_an_interrupted_command_says_what_is_saved_and_continues(
    tag: Run, tones_run: Path, tones: Path, tmp_path: Path
) -> None:
    (tmp_path / 'music').mkdir()
    for k in range(300):
        os.link(tones / 'low' / f'{k % 10}.wav', tmp_path / 'music' / f'{k:03}.wav')
    out = tmp_path / 'tags.csv'
    flags = [f'--out={out}', '--batch_size=2']
    process = start(f'--workdir={tones_run}', *flags, tmp_path / 'music')
    while process.poll() is None and not (out.exists() and out.read_bytes().count(b'\n') > 4):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    saved = out.read_bytes().count(b'\n') - 1
    if process.returncode:  # unless it had finished before the signal came
        assert process.returncode == 75
        assert err.endswith(
            f'glr_jax.predict: stopped by SIGINT; {saved} of 300 files are in {out}; '
            'run the same command again to resume\n'
        )
    tag(*flags, tmp_path / 'music')
    assert [row['path'] for row in rows_of(out)] == sorted(
        str(path) for path in (tmp_path / 'music').iterdir()
    )


@pytest.mark.slow
def test_the_reader_of_the_output_may_close_it(tones_run: Path, tones: Path) -> None:
    process = start(f'--workdir={tones_run}', '--num_workers=2', '--batch_size=1', tones)
    assert process.stdout is not None
    assert process.stderr is not None
    assert '.wav' in process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) in (0, 1)
    assert 'Traceback' not in err
    assert 'Error' not in err


def test_without_a_file_an_interruption_promises_nothing(
    monkeypatch: pytest.MonkeyPatch, tag: Run, tones: Path
) -> None:
    said: list[Callable[[], str]] = []
    monkeypatch.setattr('glr_jax.signals.leaves', said.append)
    tag(tones / 'low' / '3.wav')
    assert said[-1]() == 'nothing is saved; with --out=tags.csv a command can be resumed'


def test_commands_of_predict_end_with_one_line(
    tag: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tones_run: Path
) -> None:
    monkeypatch.setattr(sys, 'argv', ['x', f'--workdir={tones_run}', 'no.wav', 'no 2.wav'])
    with pytest.raises(SystemExit):
        cli.execute(predict.main)
    assert capfd.readouterr().err.splitlines() == [
        'no.wav was not found',
        'no 2.wav was not found',
        f'{cli._command()}: no audio was found',
    ]


@pytest.mark.parametrize('module', ['glr_jax.predict', 'glr_jax.data.decode_pool'])
def test_processes_that_decode_do_not_import_jax(module: str) -> None:
    code = f'import sys, {module}; print("jax" in sys.modules)'
    assert subprocess.check_output([sys.executable, '-c', code], text=True) == 'False\n'
