"""Players in reports: data_prep notes where the audio is, and pages link to nothing else."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from data_prep import sources
from data_prep.__main__ import Preparation, _audio_folder
from glr_jax.data import noted_audio
from glr_jax.data.dataset import open_dataset
from glr_jax.page.audio_links import audio_file, noted_file, player
from tests import browser
from tests.browser import needs_chromium
from tests.conftest import IDS, run, write_music
from tests.test_page import dataset_of, evidence_of, write

FILE = re.compile('<audio controls preload="none" src="(file:///[^"]*)"></audio>')


def noted_dataset(tmp_path: Path, ids: list[str], folder: Any) -> Any:
    """A dataset with these ids, and a note that names a folder."""
    dataset = dataset_of(('a', 'b'), len(ids), str(tmp_path / 'data' / 'mine'))
    dataset.ids[:] = ids  # type: ignore[index]
    Path(dataset.folder).mkdir(parents=True)
    Path(noted_audio.path_of(dataset.folder)).write_text(json.dumps({'folder': folder}))
    return dataset


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b'content')
    return folder


def test_music_that_was_prepared_from_a_folder_has_players(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    music = write_music(tmp_path / 'my "music"')
    monkeypatch.chdir(tmp_path)
    run('my "music"', tmp_path / 'data' / 'mine')
    dataset = open_dataset(str(tmp_path / 'data' / 'mine'))
    label = dataset.labels[0]
    assert [noted_file(dataset, id, label) for id in dataset.ids] == [str(music / id) for id in IDS]
    found = FILE.fullmatch(player(dataset, IDS[0], label, str(tmp_path)))
    assert found is not None
    assert found[1] == (music / IDS[0]).as_uri()
    shutil.move(music, tmp_path / 'elsewhere')
    assert player(dataset, IDS[0], label, str(tmp_path)) == ''


def test_the_note_is_beside_the_dataset_and_goes_with_its_source(
    music: Path, tmp_path: Path
) -> None:
    path = tmp_path / '.set.audio.json'
    noted_audio.note(str(tmp_path / 'set'), str(music))
    assert json.loads(path.read_text()) == {'folder': str(music)}
    assert noted_audio.noted(str(tmp_path / 'set') + '/') == str(music)
    noted_audio.note(str(tmp_path / 'set'), '')
    assert not path.exists()
    noted_audio.note('gs://bucket/set', str(music))
    noted_audio.note(str(tmp_path / 'missing' / 'set'), str(music))  # no failure
    assert noted_audio.noted('gs://bucket/set') == noted_audio.noted(str(tmp_path / 'none')) == ''


def test_the_files_of_gtzan_and_fma_are_found(tmp_path: Path) -> None:
    genres = [f'genres/{genre}/{genre}.0000{k}.wav' for genre in sources.GTZAN_GENRES for k in '01']
    clips = sources.gtzan_clips(str(make(tmp_path / 'gtzan', *genres)))
    prep = Preparation(source='gtzan', input=str(tmp_path / 'gtzan'))
    folder = _audio_folder(prep, clips)
    assert folder == str(tmp_path / 'gtzan' / 'genres')
    dataset = noted_dataset(tmp_path, [clip.id for clip in clips], folder)
    for clip in clips:
        assert noted_file(dataset, clip.id, clip.label) == clip.file
    fma = make(tmp_path / 'fma_small', '000/000002.mp3', '155/155066.mp3')
    noted_audio.note(dataset.folder, str(fma))
    assert noted_file(dataset, '155066', 'Rock') == str(fma / '155' / '155066.mp3')


def test_no_file_outside_of_the_noted_folder_is_linked(tmp_path: Path) -> None:
    music = make(tmp_path / 'music', 'a/one.wav', 'a/text.txt', 'a/two.wav/three.txt')
    outside = make(tmp_path, 'secret.wav', 'other/b.wav', 'music2/c.wav')
    (music / 'a' / 'link.wav').symlink_to(outside / 'secret.wav')
    (music / 'other').symlink_to(outside / 'other')
    (music / 'a' / 'inner.wav').symlink_to('one.wav')
    ids = ['a/one.wav', 'a/inner.wav', 'a/link.wav', 'other/b.wav', '../secret.wav', '../music2/c']
    ids += [str(tmp_path / 'secret.wav'), 'a/text.txt', 'a/two.wav', 'a//one.wav', 'a/./one.wav']
    ids += ['', '.', '..', 'a/\0.wav', 'x' * 5000, '\ud800.wav', 'a/one\\wav']
    dataset = noted_dataset(tmp_path, ids, str(music))
    found = [noted_file(dataset, id, label) for id in ids for label in ('b', '..', '/', '../..')]
    assert set(found) == {str(music / 'a' / 'one.wav'), str(music / 'a' / 'inner.wav'), ''}
    assert all(found[:8])
    assert not any(found[8:])
    assert not any(audio_file(dataset, id) for id in ids)
    text = write(tmp_path, evidence_of(dataset, right=0)).read_text()
    assert set(FILE.findall(text)) <= {
        (music / 'a' / f'{n}.wav').as_uri() for n in ('one', 'inner')
    }
    assert text.count('<audio') == len(FILE.findall(text)) > 0


@pytest.mark.parametrize('folder', ['music', '', '//host/share', '\\\\host\\share', '/a\0b', 7, []])
def test_a_note_that_names_no_folder_of_this_machine_is_ignored(
    tmp_path: Path, folder: object
) -> None:
    dataset = noted_dataset(tmp_path, ['a'], folder)
    assert noted_audio.noted(dataset.folder) == ''
    for content in (b'', b'[]', b'{"folder": ', b'\xff', b' ' * 100_000):
        Path(noted_audio.path_of(dataset.folder)).write_bytes(content)
        assert noted_audio.noted(dataset.folder) == ''


@needs_chromium
def test_a_player_loads_its_file_under_the_policy_of_the_page(music: Path, tmp_path: Path) -> None:
    dataset = noted_dataset(tmp_path, [*IDS[:4]], str(music))
    path = write(tmp_path, evidence_of(dataset, right=0))
    text = re.sub("script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", path.read_text())
    script = """<script>const audio = document.querySelector('audio');
        audio.onloadedmetadata = () => document.title = `${audio.duration} seconds`;
        audio.onerror = () => document.title = 'failed'; audio.load();
        audio.preload = 'metadata';</script></body>"""
    path.write_text(text.replace('</body>', script))
    shown = browser.run(path, '--dump-dom', '--virtual-time-budget=5000')
    found = re.search(r'<title>([\d.]+) seconds</title>', shown)
    assert found is not None, shown[:200]
    assert 0.1 < float(found[1]) < 1
