"""Damaged checkpoints: each is named in one line, and training and evaluation use another."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from glr_jax import evaluate, train, train_step, trained
from glr_jax.devices import parallel
from glr_jax.errors import UserError
from glr_jax.nn.model import make_classifier
from glr_jax.optimizer import make_optimizer
from glr_jax.run import checkpoint, intact
from glr_jax.run.workdir import read_config
from glr_jax.train_step import TrainState
from tests.conftest import PAPER

SMALL = [
    *PAPER,
    *('--data.frames=8', '--train.batch_size=8', '--train.epochs=4', '--baselines=false'),
    *('--model.kind=cnn', '--model.kernels=8', '--train.schedule=constant'),
]


def command(workdir: Path, data: Path, *flags: str) -> list[str]:
    return ['train', f'--workdir={workdir}', f'--data.dir={data}', *SMALL, *flags]


@pytest.fixture(scope='module')
def small_run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with several checkpoints; to be read only."""
    folder = tmp_path_factory.mktemp('runs') / 'small'
    train.main(command(folder, prepared))
    return folder


@pytest.fixture
def workdir(small_run: Path, tmp_path: Path) -> Path:
    """A copy of it without its report."""
    shutil.copytree(small_run, tmp_path / 'run', ignore=shutil.ignore_patterns('report'))
    return tmp_path / 'run'


def steps(workdir: Path) -> list[int]:
    return intact.steps(str(workdir / 'checkpoints'))


def data_files(step: Path) -> list[Path]:
    """The files in which the arrays of a checkpoint are stored."""
    return [path for path in step.rglob('d/*') if path.is_file()]


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def empty_meta(step: Path) -> None:
    (step / 'meta' / 'metadata').write_bytes(b'')


def change_meta(step: Path) -> None:
    path = step / 'meta' / 'metadata'
    path.write_text(path.read_text().replace('"hiss"', '"hist"'))


def remove_meta(step: Path) -> None:
    shutil.rmtree(step / 'meta')


def cut_arrays(step: Path) -> None:
    for path in data_files(step):
        path.write_bytes(path.read_bytes()[:-40])


def flip_arrays(step: Path) -> None:
    for path in data_files(step):
        flip(path, path.stat().st_size // 2)


def empty_folder(step: Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


def change_scores(step: Path) -> None:
    path = step / 'metrics' / 'metrics'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'loss': 0.001}))


DAMAGES = [
    empty_meta,
    change_meta,
    remove_meta,
    cut_arrays,
    flip_arrays,
    empty_folder,
    change_scores,
]


@pytest.mark.parametrize('damage', [change_meta, cut_arrays, flip_arrays, empty_folder])
def test_training_sets_a_damaged_newest_checkpoint_aside_and_ends_equal(
    damage: Callable[[Path], None],
    workdir: Path,
    small_run: Path,
    prepared: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    newest, before = steps(workdir)[:2]
    damage(workdir / 'checkpoints' / str(newest))
    train.main(command(workdir, prepared))
    said = capfd.readouterr().err
    assert said.count(f'{newest} is damaged: ') == 1
    assert f'the checkpoint of step {before} is used instead' in said
    assert f'resuming at step {before}' in said
    assert (workdir / 'damaged' / str(newest)).is_dir()
    reports = [json.loads((w / 'report/metrics.json').read_text()) for w in (workdir, small_run)]
    assert reports[0] == reports[1]
    logs = [
        [json.loads(line)['validation_loss'] for line in (w / 'metrics.jsonl').open()]
        for w in (workdir, small_run)
    ]
    assert logs[0] == logs[1]


@pytest.mark.parametrize('damage', DAMAGES)
def test_evaluation_uses_the_next_best_checkpoint_and_changes_nothing(
    damage: Callable[[Path], None], workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mesh = parallel.make_mesh(jax.devices()[:1])
    best = checkpoint.restore_best(str(workdir), mesh).step
    damage(workdir / 'checkpoints' / str(best))
    before = steps(workdir)
    (run,) = trained.restore(str(workdir))
    assert run.step != best
    said = capfd.readouterr().err
    assert f'{best} is damaged: ' in said
    assert f'the checkpoint of step {run.step} is used instead' in said
    assert steps(workdir) == before


@pytest.mark.parametrize('damage', [empty_meta, flip_arrays])
def test_without_an_intact_checkpoint_one_line_says_what_to_do_and_nothing_is_moved(
    damage: Callable[[Path], None], workdir: Path, prepared: Path
) -> None:
    for step in steps(workdir):
        damage(workdir / 'checkpoints' / str(step))
    before = steps(workdir)
    for run in (
        lambda: train.main(command(workdir, prepared)),
        lambda: trained.restore(str(workdir)),
    ):
        with pytest.raises(UserError, match=r'no intact checkpoint .* from a backup') as failure:
            run()
        assert '\n' not in str(failure.value)
    assert steps(workdir) == before


def remove_step(step: Path) -> None:
    shutil.rmtree(step)


def remove_all(step: Path) -> None:
    shutil.rmtree(step.parent, ignore_errors=True)


@pytest.mark.parametrize('damage', [empty_meta, flip_arrays, remove_step, remove_all])
def test_a_finished_run_without_usable_checkpoints_says_so_and_keeps_its_report(
    damage: Callable[[Path], None],
    workdir: Path,
    small_run: Path,
    prepared: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(small_run / 'report', workdir / 'report')
    for step in steps(workdir):
        damage(workdir / 'checkpoints' / str(step))
    before = {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file()}
    words = r'(holds no checkpoints|has no intact checkpoint).* or train into a new --workdir$'
    for main, flags in ((train.main, command(workdir, prepared)), (evaluate.main, ['evaluate'])):
        with pytest.raises(UserError, match=words) as error:
            main([*flags, f'--workdir={workdir}'])
        assert error.value.exit_code == 1
    out, err = capfd.readouterr()
    assert 'test clips of random-1; macro-F1' in ' '.join(out.split())  # the report's scores
    assert 'glr_jax.predict' not in err
    longer = [*command(workdir, prepared), '--train.epochs=5']
    with pytest.raises(UserError, match=words):
        train.main(longer)
    assert {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file() and p in before} == before
    assert not (workdir / 'report-4-epochs').exists()


def test_a_damaged_run_in_a_folder_of_runs_falls_back_alike(
    workdir: Path, small_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = workdir.parent / 'runs'
    folder.mkdir()
    (folder / 'one').symlink_to(small_run)
    shutil.move(workdir, folder / 'two')
    best = trained.restore(str(small_run))[0].step
    flip_arrays(folder / 'two' / 'checkpoints' / str(best))
    runs = trained.restore(str(folder))
    assert (runs[0].step == best, runs[1].step == best) == (True, False)
    assert 'is damaged: ' in capfd.readouterr().err


def like(workdir: Path) -> TrainState:
    config = read_config(str(workdir))
    optimizer = make_optimizer(config.train, steps=100)
    classifier = make_classifier(config.model, n_mels=128, num_labels=3, seed=1)
    return train_step.init_state(classifier, optimizer, averaged=config.train.average > 0)


def leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.mark.slow
def test_no_damage_to_any_file_gives_other_weights(workdir: Path, small_run: Path) -> None:
    assert wrong_after(40, workdir, small_run) == []


def wrong_after(count: int, workdir: Path, original: Path) -> list[str]:
    """Random faults after which a checkpoint was restored with other arrays, or raised."""
    mesh, draw, wrong = parallel.make_mesh(jax.devices()[:1]), random.Random(0), []
    state = parallel.replicate(like(original), mesh)
    expected = {}
    for step in steps(original):
        meta = intact.read_meta(str(original / 'checkpoints'), step)
        blank = {'params': state.to_use(), 'stats': state.stats}
        found = intact.read_arrays(str(original / 'checkpoints'), step, 'model', blank, meta)
        expected[step] = leaves(found)
    files = sorted(path for path in (original / 'checkpoints').rglob('*') if path.is_file())
    for _ in range(count):
        shutil.rmtree(workdir)
        shutil.copytree(original / 'checkpoints', workdir / 'checkpoints')
        path = workdir / draw.choice(files).relative_to(original)
        size = path.stat().st_size
        match draw.choice(['flip', 'flip', 'cut', 'empty', 'remove', 'noise']):
            case 'flip' if size:
                flip(path, draw.randrange(size), draw.randrange(8))
            case 'cut':
                path.write_bytes(path.read_bytes()[: draw.randrange(size + 1)])
            case 'noise':
                path.write_bytes(draw.randbytes(size))
            case 'remove':
                path.unlink()
            case _:
                path.write_bytes(b'')
        best = checkpoint.restore_best(str(workdir), mesh)
        with checkpoint.open_manager(str(workdir)) as manager:
            latest = checkpoint.restore_latest(manager, state, mesh)
        for step, restored in (
            (best.step, best.state),
            (int(latest.step), (latest.to_use(), latest.stats)),
        ):
            if not all(map(np.array_equal, leaves(restored), expected[step])):
                wrong.append(f'{path}: other weights')
    return wrong


def test_leftovers_of_killed_saves_are_removed(workdir: Path, prepared: Path) -> None:
    newest = workdir / 'checkpoints' / str(steps(workdir)[0])
    shutil.move(newest, f'{newest}.orbax-checkpoint-tmp')
    (workdir / 'config.json.partial-123').write_text('{')
    os.utime(workdir / 'config.json.partial-123', (0, 0))
    train.main(command(workdir, prepared))
    assert (workdir / 'report' / 'metrics.json').exists()
    assert not list(workdir.rglob('*.orbax-checkpoint-tmp'))
    assert not list(workdir.rglob('*.partial-*'))


def test_an_older_checkpoint_without_checksums_is_read(workdir: Path) -> None:
    for step in steps(workdir):
        path = workdir / 'checkpoints' / str(step) / 'meta' / 'metadata'
        meta = json.loads(path.read_text())
        for name in ('checksums', 'checksum', 'validation_loss', 'data'):
            del meta[name]
        path.write_text(json.dumps(meta))
    mesh = parallel.make_mesh(jax.devices()[:1])
    assert checkpoint.restore_best(str(workdir), mesh).meta.data == ''


def test_a_checkpoint_with_other_arrays_is_not_called_damaged(workdir: Path) -> None:
    config = read_config(str(workdir))
    classifier = make_classifier(config.model, n_mels=64, num_labels=3, seed=1)
    state = train_step.init_state(classifier, make_optimizer(config.train, steps=100))
    mesh = parallel.make_mesh(jax.devices()[:1])
    with (
        checkpoint.open_manager(str(workdir)) as manager,
        pytest.raises(UserError, match='saved with arrays of other names or shapes'),
    ):
        checkpoint.restore_latest(manager, parallel.replicate(state, mesh), mesh)
    assert not (workdir / 'damaged').exists()


def test_a_checkpoint_that_cannot_be_written_is_one_line_and_the_earlier_ones_stay(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = parallel.make_mesh(jax.devices()[:1])
    before = steps(workdir)
    with checkpoint.open_manager(str(workdir)) as manager:
        state = checkpoint.restore_latest(manager, parallel.replicate(like(workdir), mesh), mesh)
        meta = checkpoint.read_meta(manager, before[0])

        def fail(*_: Any, **__: Any) -> None:
            raise ValueError('RESOURCE_EXHAUSTED: write failed\nNo space left on device')

        monkeypatch.setattr(manager, 'save', fail)
        later = state._replace(step=state.step + 1)
        with pytest.raises(UserError, match='the disk is full; the earlier ones') as failure:
            checkpoint.save(manager, later, meta, None)
        assert '\n' not in str(failure.value)
    assert steps(workdir) == before


def test_without_an_earlier_checkpoint_a_full_disk_does_not_speak_of_one(tmp_path: Path) -> None:
    (tmp_path / '1.orbax-checkpoint-tmp').mkdir()
    words = 'the first checkpoint could not be .*: the disk is full; no checkpoint has been saved'
    with pytest.raises(UserError, match=words), intact.failures_named(str(tmp_path)):
        raise OSError(28, 'No space left on device')
