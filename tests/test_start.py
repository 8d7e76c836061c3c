"""Where a run starts: with more epochs, at another run's weights, alone in its workdir."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from glr_jax import evaluate, report, train
from glr_jax.data.dataset import open_dataset
from glr_jax.devices import parallel
from glr_jax.errors import UserError
from glr_jax.nn.model import make_classifier, partition
from glr_jax.run import checkpoint, start, workdir
from glr_jax.run.workdir import read_config
from tests.conftest import PAPER, run, write_music

ROOT = Path(__file__).parents[1]
SMALL = [
    *PAPER,
    *('--data.frames=8', '--train.batch_size=8', '--baselines=false'),
    *('--model.kind=cnn', '--model.kernels=8', '--train.schedule=constant'),
]


def command(folder: Path, data: Path, epochs: int, *flags: str) -> list[str]:
    own = [f'--workdir={folder}', f'--data.dir={data}', f'--train.epochs={epochs}']
    return ['train', *SMALL, *own, *flags]


def losses(folder: Path) -> list[tuple[int, float, float]]:
    rows, _ = workdir.read_log(str(folder))
    return [(row['step'], row['loss'], row['validation_loss']) for row in rows]


# ---------------------------------------------------------------- more epochs
@pytest.mark.slow
def test_a_run_with_a_constant_rate_is_extended_as_if_it_had_been_longer(
    prepared: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    train.main(command(whole, prepared, 5))
    train.main(command(parts, prepared, 2))
    train.main(command(parts, prepared, 5))
    assert losses(parts) == losses(whole)
    assert len(losses(parts)) == 5
    scores = [json.loads((w / 'report/metrics.json').read_text()) for w in (whole, parts)]
    assert scores[0] == scores[1]
    assert (parts / 'report-2-epochs' / 'metrics.json').exists()
    assert read_config(str(parts)).train.epochs == 5
    with pytest.raises(UserError, match=r'--train.epochs=5 \(not 3\)'):
        train.main(command(parts, prepared, 3))


def test_an_extension_that_is_killed_before_it_begins_is_repeated(
    prepared: Path, tmp_path: Path
) -> None:
    train.main(command(tmp_path / 'run', prepared, 2))
    (tmp_path / 'run' / 'report').rename(tmp_path / 'run' / 'report-2-epochs')
    train.main(command(tmp_path / 'run', prepared, 3))
    assert len(losses(tmp_path / 'run')) == 3


@pytest.mark.parametrize('flag', ['--train.schedule=cosine', '--train.warmup=0.1'])
def test_a_run_whose_rate_depends_on_the_epochs_is_not_extended(
    flag: str, prepared: Path, tmp_path: Path
) -> None:
    train.main(command(tmp_path, prepared, 1, flag))
    with pytest.raises(UserError, match=r'cannot be extended .*--init_from='):
        train.main(command(tmp_path, prepared, 2, flag))
    assert report.read(str(tmp_path))


# ---------------------------------------------------------------- another run's weights
@pytest.fixture(scope='module')
def source(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; to be read only."""
    folder = tmp_path_factory.mktemp('runs') / 'source'
    train.main(command(folder, prepared, 2))
    return folder


def weights(source: Path, data: Path) -> tuple[nnx.State, nnx.State, nnx.State, nnx.State]:
    """(params, stats) of the source's best checkpoint, and of a classifier that starts there."""
    dataset, config = open_dataset(str(data)), read_config(str(source)).model
    classifier = make_classifier(config, dataset.n_mels, len(dataset.labels), seed=7)
    start.load(classifier, config, dataset, str(source))
    best = checkpoint.restore_best(str(source), parallel.make_mesh(jax.devices()[:1]))
    return (*best.state, *partition(classifier)[1:])


def test_a_run_starts_from_all_weights_if_the_labels_are_the_same(
    source: Path, prepared: Path
) -> None:
    params, stats, ours, our_stats = weights(source, prepared)
    jax.tree.map(np.testing.assert_array_equal, (params, stats), (ours, our_stats))


@pytest.mark.slow
def test_with_other_labels_the_output_layer_starts_anew(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for count in (3, 2):
        music = write_music(tmp_path / f'music-{count}')
        (music / 'hum').rename(music / 'buzz')
        if count == 2:
            shutil.rmtree(music / 'hiss')
        data = run(music, tmp_path / f'data-{count}')
        params, stats, ours, our_stats = weights(source, data)
        jax.tree.map(np.testing.assert_array_equal, stats, our_stats)
        labels = open_dataset(str(data)).labels
        config = read_config(str(source)).model
        _, fresh, _ = partition(make_classifier(config, 128, len(labels), seed=7))
        theirs, now, new = (dict(nnx.to_flat_state(state)) for state in (params, ours, fresh))
        for name, value in now.items():
            expected = new[name] if 'output' in name else theirs[name]
            np.testing.assert_array_equal(value[...], expected[...])
        assert 'its labels differ, so the output layers start anew' in capfd.readouterr().err
    train.main(command(tmp_path / 'run', data, 1, f'--init_from={source}'))
    assert report.read(str(tmp_path / 'run'))


def test_with_another_number_of_labels_per_clip_the_output_layer_starts_anew(
    source: Path, prepared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset, config = open_dataset(str(prepared)), read_config(str(source)).model
    object.__setattr__(dataset, 'targets', dataset.has_label().astype(np.uint8))
    classifier = make_classifier(config, dataset.n_mels, 3, seed=7, multi_label=True)
    fresh = dict(nnx.to_flat_state(partition(classifier)[1]))
    start.load(classifier, config, dataset, str(source))
    best = checkpoint.restore_best(str(source), parallel.make_mesh(jax.devices()[:1]))
    theirs = dict(nnx.to_flat_state(best.state[0]))
    for name, value in nnx.to_flat_state(partition(classifier)[1]):
        expected = fresh[name] if 'output' in name else theirs[name]
        np.testing.assert_array_equal(value[...], expected[...])
    words = 'it was trained with one label per clip, so the output layers start anew'
    assert words in capfd.readouterr().err


def test_a_run_that_began_elsewhere_resumes_without_its_source_and_counts_its_clips(
    source: Path, prepared: Path, tmp_path: Path
) -> None:
    shutil.copytree(source, tmp_path / 'source')
    flags = [f'--init_from={tmp_path / "source"}', '--data.split=random-2']
    train.main(command(tmp_path / 'run', prepared, 1, *flags))
    shutil.rmtree(tmp_path / 'source')
    shutil.rmtree(tmp_path / 'run' / 'report')
    train.main(command(tmp_path / 'run', prepared, 1, *flags))
    dataset = open_dataset(str(prepared))
    test = set(dataset.members('random-2', 'test'))
    leaked = len(test.intersection(dataset.members('random-1', 'train')))
    assert json.loads((tmp_path / 'run/report/metrics.json').read_text())['trained_on'] == leaked
    with pytest.raises(UserError, match=r'--init_from=.*source \(not '):
        train.main(command(tmp_path / 'run', prepared, 1, '--data.split=random-2'))


def test_a_source_with_another_network_is_refused(source: Path, prepared: Path) -> None:
    with pytest.raises(UserError, match=r'another network: --model.norm=glr \(not group\)'):
        train.main(
            command(source / 'never', prepared, 1, f'--init_from={source}', '--model.norm=group')
        )


# ---------------------------------------------------------------- one command per workdir
HOLD = 'import sys, time; from glr_jax.run import workdir\n'
HOLD += 'with workdir.lock(sys.argv[1]): print("held", flush=True); time.sleep(60)'


def test_a_second_command_is_told_who_has_the_workdir(prepared: Path, tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(tmp_path / 'run')],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == 'held\n'
    with pytest.raises(UserError, match=f'in use by process {holder.pid} on ') as failure:
        train.main(command(tmp_path / 'run', prepared, 1))
    assert failure.value.exit_code == 1
    holder.kill()  # no lock stays behind
    holder.wait()
    train.main(command(tmp_path / 'run', prepared, 1))


def test_a_check_that_fails_leaves_no_workdir(tmp_path: Path) -> None:
    def fail() -> None:
        with workdir.lock(str(tmp_path / 'run')):
            raise UserError('no such split')

    with pytest.raises(UserError, match='no such split'):
        fail()
    assert os.listdir(tmp_path) == []


def test_scoring_an_unfinished_run_does_not_finish_it(
    source: Path, prepared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(source, tmp_path / 'run')
    shutil.rmtree(tmp_path / 'run' / 'report')
    evaluate.main(['evaluate', f'--workdir={tmp_path / "run"}'])
    assert 'the run is not finished' in ' '.join(capfd.readouterr().out.split())
    assert (tmp_path / 'run' / 'report' / 'index.html').exists()
    assert report.read(str(tmp_path / 'run')) == {}
    train.main(command(tmp_path / 'run', prepared, 2))
    assert report.read(str(tmp_path / 'run')) == report.read(str(source))
