"""Every file below a folder is used, or named and counted."""

import csv
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import inspect, sources
from glr_jax import predict
from glr_jax.data.files import LeftOut, audio_files, describe
from glr_jax.errors import UserError
from tests.conftest import LABELS, run, write_music


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Music with other files of every kind beside it."""
    music = write_music(tmp_path / 'music')
    for name in ('cover.jpg', 'back.JPG', 'notes.txt', 'LICENSE', '.DS_Store', 'album.m3u'):
        (music / 'hum' / name).write_text('no audio')
    (music / 'rain/.hidden').mkdir()
    (music / 'rain/.hidden/0.wav').touch()
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    soundfile.write(elsewhere / 'a.wav', np.sin(np.arange(9000)), 22050)
    (music / 'rain/linked').symlink_to(elsewhere)
    (music / 'drone').mkdir()
    (music / 'drone/song.xyz').write_text('no audio')
    (music / 'empty').mkdir()
    soundfile.write(music / 'loose.wav', np.sin(np.arange(9000)), 22050)
    return music


def reasons(out: Path) -> dict[str, str]:
    with open(out / 'skipped.csv', newline='') as file:
        return {row['id']: row['reason'] for row in csv.DictReader(file)}


def test_every_file_is_used_or_named_with_a_reason(
    messy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = reasons(run(messy, tmp_path / 'out'))
    words = {
        'hum/cover.jpg': 'suffix .jpg',
        'hum/back.JPG': 'suffix .jpg',
        'hum/notes.txt': 'suffix .txt',
        'hum/album.m3u': 'suffix .m3u',
        'hum/LICENSE': 'no suffix',
        'rain/linked': 'symbolic link to a folder',
        'drone/song.xyz': 'suffix .xyz',
        'drone': 'no audio files',
        'empty': 'no audio files',
        'loose.wav': 'in no sub-folder',
    }
    assert found.keys() == words.keys()
    assert all(words[id] in found[id] for id in words)
    *labels, others, more, total = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in labels] == [
        ['drone', '0'],
        ['empty', '0'],
        *([label, '8'] for label in LABELS),
    ]
    assert '24 clips' in total
    assert others.startswith('12 other files left out (2 .jpg, 2 hidden, 2 labels without audio')
    assert max(map(len, [*labels, others, more])) <= 80
    assert ', 0 skipped, ' in total


def test_inspect_counts_what_was_left_out(
    messy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(messy, tmp_path / 'out')
    inspect.main(['inspect', str(out)])
    text = capsys.readouterr().out
    assert re.search(r'^ +2  .*suffix \.jpg, e\.g\. hum/', text, re.MULTILINE)


def test_predict_counts_what_it_leaves_out(messy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(predict.find([str(messy)]))) == 25
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f'{messy}: left out 9 files (2 .jpg, 2 hidden, 1 .m3u, 1 .txt, 1 .xyz, 1 linked folder, '
        '1 no suffix)'
    )
    with pytest.raises(UserError, match=r'drone has no audio files, only 1 \.xyz'):
        list(predict.find([str(messy / 'drone')]))


def test_files_that_the_table_does_not_list_are_named(messy: Path, tmp_path: Path) -> None:
    names = [f'{label}/{k}.wav' for label in ('hum', 'rain') for k in range(7)]
    (messy / 'metadata.csv').write_text('\n'.join(['path', *names]))
    found = reasons(run(messy, tmp_path / 'out'))
    assert Counter(found.values()) == {'is not listed in metadata.csv': 25 - 14}


def test_gtzan_names_other_files_too(tmp_path: Path) -> None:
    for genre in sources.GTZAN_GENRES:
        (tmp_path / genre).mkdir()
    (tmp_path / 'jazz/cover.jpg').touch()
    others: list[LeftOut] = []
    sources.gtzan_clips(str(tmp_path), left_out=others.append)
    assert others == [LeftOut(str(tmp_path / 'jazz/cover.jpg'), '.jpg')]


def test_a_folder_without_read_permission_is_named(tmp_path: Path) -> None:
    closed = tmp_path / 'closed'
    closed.mkdir()
    others: list[LeftOut] = []
    with pytest.MonkeyPatch.context() as patch:
        scan = os.scandir

        def refuse(path: str) -> object:
            if path == str(closed):
                raise PermissionError(13, 'Permission denied', path)
            return scan(path)

        patch.setattr(os, 'scandir', refuse)
        assert not list(audio_files(str(tmp_path), others.append))
    assert describe(others) == '1 closed folder'


def test_a_link_to_the_folder_above_is_not_followed(tmp_path: Path) -> None:
    write_music(tmp_path)
    (tmp_path / 'hum/up').symlink_to('..')
    others: list[LeftOut] = []
    assert len(list(audio_files(str(tmp_path), others.append))) == 24
    assert describe(others) == '1 linked folder'


# ---------------------------------------------------------------- folders of sides
def test_a_folder_of_sides_is_explained(tmp_path: Path) -> None:
    for side in ('train', 'Val', 'test'):
        write_music(tmp_path / 'music' / side)
    with pytest.raises(
        UserError, match=r'Val, test, train: sides of a split.*--sides_from_folders'
    ):
        run(tmp_path / 'music', tmp_path / 'out')
    out = run(tmp_path / 'music', tmp_path / 'out', '--sides_from_folders', '--keep_copies')
    with open(out / 'splits.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert {row['label'] for row in rows} == set(LABELS)
    named = {'train': 'train', 'Val': 'validation', 'test': 'test'}
    assert all(row['official'] == named[row['id'].split('/')[0]] for row in rows)
    assert len(rows) == 72


def test_one_label_may_have_the_name_of_a_side(tmp_path: Path) -> None:
    write_music(tmp_path / 'music')
    os.rename(tmp_path / 'music/hum', tmp_path / 'music/test')
    assert {clip.label for clip in sources.folder_clips(str(tmp_path / 'music'))} == {
        'hiss',
        'rain',
        'test',
    }


def test_folders_that_are_not_sides_are_named(tmp_path: Path) -> None:
    write_music(tmp_path / 'music')
    with pytest.raises(UserError, match=r"--sides_from_folders needs .* not 'hiss', 'hum'"):
        run(tmp_path / 'music', tmp_path / 'out', '--sides_from_folders')
    (tmp_path / 'music/metadata.csv').write_text('path\n')
    with pytest.raises(UserError, match='column split'):
        run(tmp_path / 'music', tmp_path / 'out', '--sides_from_folders')
    with pytest.raises(UserError, match='needs --source=folder'):
        run(tmp_path / 'music', tmp_path / 'out', '--sides_from_folders', '--source=gtzan')
