"""All runners write the same bytes."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from data_prep.__main__ import Preparation
from data_prep.clips import Clip
from data_prep.pipeline import prepare
from data_prep.runners import on_pool
from glr_jax.data.mel import FrontEnd
from glr_jax.errors import UsageError, UserError
from tests.conftest import run


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob('*')) if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_shard_ranges_of_several_jobs_make_up_the_dataset(
    music: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    for part in ('3:5', '0:2'):
        run(music, out, f'--shard_range={part}')
        assert not (out / 'splits.csv').exists()
    assert capsys.readouterr().out.startswith(f'shards 3:5 are in {out}; once all')
    written = {path: path.stat().st_mtime_ns for path in out.glob('music-clips*')}
    assert len(written) == 4
    run(music, out)
    assert hashes(out) == hashes(prepared)
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())


def test_a_job_leaves_the_shards_of_other_jobs_alone(music: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    run(music, out, '--shard_range=0:1')
    other = out / 'music-clips.tfrecord-00001-of-00005.partial-1'
    other.touch()
    run(music, out, '--shard_range=2:3')
    assert other.exists()
    run(music, out)
    assert not other.exists()


@pytest.mark.parametrize('text', ['3', '5:3', '2:2', '-1:2', 'a:b'])
def test_a_bad_range_is_a_usage_error(music: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match='--shard_range'):
        run(music, tmp_path / 'out', f'--shard_range={text}')


def test_a_range_beyond_the_shards_is_refused(music: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    with pytest.raises(UserError, match='--shard_range=4:6 is too large: there are only 5 shards'):
        run(music, out, '--shard_range=4:6')
    assert not out.exists()


def test_a_refused_command_leaves_a_finished_dataset_as_it_was(
    music: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(prepared, tmp_path / 'out'))
    monkeypatch.setitem(sys.modules, 'apache_beam', None)
    for flag in ('--shard_range=0:100', '--runner=beam'):
        with pytest.raises(UserError):
            run(music, out, flag)
        assert hashes(out) == hashes(prepared)
        assert not (out / '.unfinished').exists()


class Kill:
    """Kills the worker that receives it, as the system does when memory runs out."""

    def __reduce__(self) -> tuple:
        return os._exit, (9,)

    def __call__(self, front_end: FrontEnd) -> None:
        raise AssertionError


def test_a_killed_worker_is_a_one_line_error(tmp_path: Path) -> None:
    clips = [Clip(f'{label}{k}', label, Kill()) for label in 'ab' for k in range(3)]  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r'--num_workers below 2 to resume'):
        prepare(clips, str(tmp_path / 'out'), FrontEnd(), runner=on_pool(2))


def test_beam_writes_the_same_bytes(music: Path, prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip('apache_beam')
    options = '--beam_options=--runner=DirectRunner --direct_num_workers=2'
    out = run(music, tmp_path / 'out', '--runner=beam', options)
    assert hashes(out) == hashes(prepared)


def test_a_missing_beam_is_a_one_line_error(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'apache_beam', None)
    with pytest.raises(UserError, match=r'\[beam\]'):
        run(music, tmp_path / 'out', '--runner=beam')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('options', 'fault'), [("'", 'an unclosed quote'), ('a\\', 'a backslash at its end')]
)
def test_beam_options_that_cannot_be_split_are_a_usage_error(options: str, fault: str) -> None:
    with pytest.raises(UsageError) as failure:
        Preparation(runner='beam', beam_options=options)
    assert str(failure.value) == f'--beam_options={options} has {fault}'
