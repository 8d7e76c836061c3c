import errno
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from data_prep import inspect
from glr_jax.errors import UsageError, UserError
from tests.conftest import LABELS, run


def look(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    inspect.main(['inspect', *arguments])
    return capsys.readouterr().out


def test_labels_lengths_splits_and_records_are_printed(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = look(capsys, str(prepared))
    for label in LABELS:
        assert re.search(rf'^{label} +8 ', text, re.MULTILINE)
    assert re.search(r'^all +24 +0\.\d +0\.\d +0\.\d$', text, re.MULTILINE)
    assert re.search(r'^random-1 +18 +3 +3 +0   no groups$', text, re.MULTILINE)
    assert text.endswith('all 24 records are intact\n')


def test_groups_on_several_sides_and_skipped_clips_are_counted(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f'{label}/{k}.wav' for label in LABELS for k in range(8)] + ['hum/99.wav']
    rows = [f'{name},{name.split("/")[0]}' for name in names]
    (tmp_path / 'music').mkdir()
    for label in LABELS:
        (tmp_path / 'music' / label).symlink_to(music / label)
    (tmp_path / 'music/metadata.csv').write_text('\n'.join(['path,artist', *rows]))
    text = look(capsys, str(run(tmp_path / 'music', tmp_path / 'out')))
    assert re.search(r'^random-1 .* 3 of 3$', text, re.MULTILINE)
    assert re.search(r'^ +1  cannot be read.*, e\.g\. hum/99.wav$', text, re.MULTILINE)


@pytest.mark.parametrize('offset', [40, 600])
def test_a_flipped_bit_is_reported_with_file_and_offset(
    music: Path, tmp_path: Path, offset: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(music, tmp_path / 'out')
    shard = out / 'music-clips.tfrecord-00002-of-00005'
    data = bytearray(shard.read_bytes())
    data[offset] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match='1 fault'):
        look(capsys, str(out))
    assert f'{shard}: corrupt record 0 at offset 0' in capsys.readouterr().out


def test_a_truncated_shard_is_reported(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(music, tmp_path / 'out')
    shard = out / 'music-clips.tfrecord-00004-of-00005'
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(UserError):
        look(capsys, str(out))
    assert re.search(rf'{shard}: truncated at offset [1-9]', capsys.readouterr().out)


def test_a_page_of_spectrograms_is_drawn(prepared: Path, tmp_path: Path) -> None:
    inspect.main(['inspect', str(prepared), f'--page={tmp_path / "page.png"}'])
    assert (tmp_path / 'page.png').read_bytes()[:4] == b'\x89PNG'


def test_a_page_that_cannot_be_written_is_named(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Figure, 'savefig', fail)
    with pytest.raises(OSError, match='No space left') as failure:
        inspect.main(['inspect', str(prepared), f'--page={tmp_path / "page.png"}'])
    assert failure.value.filename == str(tmp_path / 'page.png')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['x.foo', 'x', 'png'])
def test_a_page_of_an_unknown_format_is_refused_before_anything_is_read(name: str) -> None:
    with pytest.raises(UsageError, match=f'--page={name} must end in .png, .pdf, .svg, .jpg'):
        inspect.main(['inspect', 'nowhere', f'--page={name}'])


@pytest.mark.parametrize('suffix', inspect.FORMATS)
def test_a_page_can_have_any_format_that_is_named(
    prepared: Path, tmp_path: Path, suffix: str
) -> None:
    inspect.main(['inspect', str(prepared), f'--page={tmp_path}/page{suffix}'])
    assert (tmp_path / f'page{suffix}').stat().st_size > 1000


def test_a_folder_that_is_not_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='is not a finished dataset; if it holds audio, prepare it'):
        inspect.main(['inspect', str(tmp_path)])
    with pytest.raises(UsageError, match='FOLDER'):
        inspect.main(['inspect'])
