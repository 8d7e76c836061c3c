"""The commands on small audio, from files to predictions."""

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

import librosa
import numpy as np
import pytest
import soundfile

from data_prep import __main__ as data_prep
from glr_jax import cli, evaluate, predict, train, trained
from glr_jax.errors import UserError
from tests.conftest import SMALL_RUN, write_tone

COMMANDS: dict[str, Any] = {
    'glr_jax.train': train,
    'glr_jax.evaluate': evaluate,
    'glr_jax.predict': predict,
}


def remake(source: Path, path: Path, seconds: float, rate: int = 22050, channels: int = 1) -> Path:
    """The same music with another length, sample rate and number of channels."""
    samples, old_rate = soundfile.read(source)
    samples = np.resize(samples, int(old_rate * seconds))
    if rate != old_rate:
        samples = librosa.resample(samples, orig_sr=old_rate, target_sr=rate)
    soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), rate)
    return path


def copy_run(workdir: Path, folder: Path, **changes: Any) -> list[str]:
    """Copies a finished run without its report; the flags that train it."""
    shutil.copytree(workdir, folder, ignore=shutil.ignore_patterns('report'))
    path = folder / 'config.json'
    config = json.loads(path.read_text()) | {'workdir': str(folder)}
    config['data'] |= changes
    path.write_text(json.dumps(config))
    return ['train', f'--workdir={folder}', f'--data.dir={config["data"]["dir"]}', *SMALL_RUN]


def test_a_run_leaves_checkpoints_logs_and_a_report(tones_run: Path) -> None:
    metrics = json.loads((tones_run / 'report' / 'metrics.json').read_text())
    assert metrics['accuracy'] == 1.0
    assert metrics['num_clips'] == 3
    assert metrics['labels'] == ['high', 'low', 'middle']
    assert metrics['confusion'] == np.eye(3, dtype=int).tolist()
    assert (metrics['split'], metrics['side']) == ('random-1', 'test')
    assert {'macro_f1', 'precision', 'recall', 'per_class', 'step'} <= set(metrics)
    page = (tones_run / 'report' / 'index.html').read_text()
    assert page.count('<svg') == 4  # curves, confusion, calibration
    rows = [json.loads(line) for line in (tones_run / 'metrics.jsonl').read_text().splitlines()]
    assert [row['epoch'] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]['loss'] < rows[0]['loss']
    assert any('tfevents' in name for name in os.listdir(tones_run / 'tensorboard' / 'train'))
    with open(tones_run / 'report' / 'predictions.csv', newline='') as file:
        assert [row['label'] for row in csv.DictReader(file)] == ['high', 'low', 'middle']


def test_the_best_checkpoint_and_two_others_at_least_are_kept(tones_run: Path) -> None:
    steps = sorted(int(name) for name in os.listdir(tones_run / 'checkpoints') if name.isdigit())
    best = json.loads((tones_run / 'report' / 'metrics.json').read_text())['step']
    assert 2 <= len(set(steps) - {best}) <= 3
    assert steps[-1] == 18
    assert best in steps


def test_a_finished_run_says_so_and_keeps_its_report(
    tones_run: Path, tones_dataset: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (tones_run / 'report' / 'metrics.json').read_text()
    train.main(['train', f'--workdir={tones_run}', f'--data.dir={tones_dataset}', *SMALL_RUN])
    assert 'is finished' in capfd.readouterr().err
    assert (tones_run / 'report' / 'metrics.json').read_text() == before


@pytest.mark.slow
def test_a_run_resumes_after_sigterm_as_if_never_interrupted(
    tones_run: Path, tones_dataset: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    flags = [f'--workdir={workdir}', f'--data.dir={tones_dataset}', *SMALL_RUN]
    command = [sys.executable, '-m', 'glr_jax.train', *flags, '--parallel.cpu_devices=8']
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = workdir / 'metrics.jsonl'
    while not (log.exists() and log.read_text()) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    if process.returncode:  # unless it had finished before the signal came
        assert errors.endswith('run the same command again to resume\n'), errors
        assert not (workdir / 'report').exists()
        again = subprocess.run(command, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert 'resuming at step' in again.stderr
        assert 'accuracy 1.000' in again.stdout

    def losses(folder: Path) -> list[float]:
        lines = (folder / 'metrics.jsonl').read_text().splitlines()
        return [json.loads(line)['loss'] for line in lines]

    assert losses(workdir) == pytest.approx(losses(tones_run), rel=1e-6)


def test_a_run_killed_before_its_report_only_writes_the_report(
    tones_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train.main(copy_run(tones_run, tmp_path / 'run'))
    out, err = capfd.readouterr()
    assert 'accuracy 1.000' in out
    assert 'train loss' not in err  # the head of the table of epochs


def test_a_dataset_with_another_front_end_is_refused(
    tones_run: Path, tones: Path, tmp_path: Path
) -> None:
    data, words = f'{tmp_path / "data"}', r'with --htk=True, but .* on --htk=False'
    data_prep.main(['data_prep', f'--input={tones}', f'--out={data}', '--htk', '--num_workers=1'])
    with pytest.raises(UserError, match=words):
        evaluate.main(['evaluate', f'--workdir={tones_run}', f'--data.dir={data}'])
    flags = copy_run(tones_run, tmp_path / 'run', dir=data)
    with pytest.raises(UserError, match=words):
        train.main(flags)


def test_a_wrong_split_leaves_no_workdir_behind(tones_dataset: Path, tmp_path: Path) -> None:
    flags = [f'--workdir={tmp_path / "w"}', f'--data.dir={tones_dataset}', '--data.split=x']
    with pytest.raises(UserError, match='random-1'):
        train.main(['train', *flags])
    assert not (tmp_path / 'w').exists()


def test_evaluating_another_split_counts_the_clips_trained_on(
    tones_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate.main(['evaluate', f'--workdir={tones_run}', '--data.split=random-2'])
    out, err = capfd.readouterr()
    metrics = json.loads((tones_run / 'report' / 'random-2' / 'metrics.json').read_text())
    assert metrics['trained_on'] > 0
    assert f'{metrics["trained_on"]} of these 3 clips were trained on' in err
    assert 'accuracy 1.000' in out


def test_evaluation_restores_the_checkpoint_once(
    tones_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored = []
    restore: Callable[[str], Any] = trained.restore
    monkeypatch.setattr(trained, 'restore', lambda w: restored.append(w) or restore(w))
    evaluate.main(['evaluate', f'--workdir={tones_run}'])
    assert restored == [str(tones_run)]


@pytest.mark.parametrize('format', ['table', 'json', 'csv'])
def test_predicting_any_length_rate_and_number_of_channels(
    tones_run: Path, tones: Path, tmp_path: Path, format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [
        remake(tones / 'low' / '3.wav', tmp_path / 'short low.wav', seconds=0.2),
        remake(tones / 'high' / '3.wav', tmp_path / 'long high.flac', 20, rate=44100, channels=2),
        remake(tones / 'middle' / '3.wav', tmp_path / 'six.wav', 2.0, rate=8000, channels=6),
    ]
    predict.main(['predict', f'--workdir={tones_run}', f'--format={format}', *map(str, files)])
    out = capfd.readouterr().out
    expected = ['low', 'high', 'middle']
    if format == 'json':
        rows = json.loads(out)
        assert [row['path'] for row in rows] == list(map(str, files))
        assert [row['decision'] for row in rows] == expected
        assert all(sum(row['probabilities'].values()) == pytest.approx(1) for row in rows)
    elif format == 'csv':
        rows = list(csv.DictReader(out.splitlines()))
        assert [row['decision'] for row in rows] == expected
    else:
        assert [line.split()[0] for line in out.splitlines()] == expected


def test_predicting_a_folder_continues_after_a_bad_file(
    tones_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_tone(tmp_path / 'good.wav', 200, 1.0)
    (tmp_path / 'bad.mp3').write_text('not music')
    with pytest.raises(UserError, match='1 of 2 files could not be tagged'):
        predict.main(['predict', f'--workdir={tones_run}', str(tmp_path)])
    out, err = capfd.readouterr()
    assert 'good.wav' in out
    assert 'bad.mp3: cannot be decoded as audio' in err


def test_a_prediction_does_not_depend_on_the_other_files(
    tones_run: Path, tones: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, folder = str(tones / 'low' / '3.wav'), str(tones)
    predict.main(['predict', f'--workdir={tones_run}', '--format=csv', one])
    alone = capfd.readouterr().out.splitlines()[1]
    predict.main(['predict', f'--workdir={tones_run}', '--format=csv', folder])
    assert alone in capfd.readouterr().out.splitlines()


@pytest.mark.slow
def test_a_model_of_ready_made_spectrograms_cannot_tag_audio(tones: Path, tmp_path: Path) -> None:
    rng, labels = np.random.default_rng(0), np.repeat(['a', 'b'], 10)
    mel = rng.integers(0, 256, (20, 40, 16), np.uint8)
    np.savez(tmp_path / 'x.npz', mel=mel, label=labels, id=[f'{k}' for k in range(20)])
    data, run = f'{tmp_path / "data"}', f'--workdir={tmp_path / "run"}'
    command = ['data_prep', '--source=arrays', f'--input={tmp_path / "x.npz"}', f'--out={data}']
    data_prep.main([*command, '--num_workers=1'])
    train.main(['train', run, f'--data.dir={data}', *SMALL_RUN, '--train.epochs=1'])
    with pytest.raises(UserError, match='ready-made spectrograms'):
        predict.main(['predict', run, str(tones / 'low' / '3.wav')])


@pytest.mark.parametrize(
    ('module', 'arguments', 'code', 'words'),
    [
        ('glr_jax.train', ['--model.nrom=glr'], 2, 'model.nrom'),
        ('glr_jax.train', ['--flagfile=no/such.flags'], 2, 'no/such.flags'),
        ('glr_jax.train', ['--data.dir={dataset}'], 2, '--workdir is required'),
        ('glr_jax.train', ['--workdir=w'], 2, '--data.dir is required'),
        ('glr_jax.train', ['--workdir=w', '--data.dir=no/such'], 1, 'python -m data_prep'),
        ('glr_jax.train', ['--workdir={workdir}', '--data.dir={dataset}'], 1, 'frames=32'),
        (
            'glr_jax.train',
            ['--workdir={tmp}/w', '--data.dir={dataset}', '--data.split=odd'],
            1,
            'choose one of random-1 to random-13',
        ),
        ('glr_jax.evaluate', ['--workdir=no/such'], 1, 'no/such'),
        ('glr_jax.evaluate', [], 2, '--workdir'),
        ('glr_jax.predict', ['--workdir=no/such', '{music}'], 1, 'no/such'),
        ('glr_jax.predict', ['--workdir={workdir}', 'no/such.mp3'], 1, 'no/such.mp3'),
        ('glr_jax.predict', ['--workdir={workdir}'], 2, 'file or a folder'),
        ('glr_jax.predict', ['{music}'], 2, '--workdir is required'),
    ],
)
def test_an_error_of_the_user_is_one_line_and_an_exit_code(
    module: str,
    arguments: list[str],
    code: int,
    words: str,
    tones_run: Path,
    tones_dataset: Path,
    tones: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    names = {'workdir': tones_run, 'dataset': tones_dataset, 'music': tones, 'tmp': tmp_path}
    monkeypatch.setattr(sys, 'argv', [module, *(each.format(**names) for each in arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.execute(COMMANDS[module].main)
    out, err = capfd.readouterr()
    assert stop.value.code == code
    assert len(err.strip().splitlines()) == 1, err
    assert words in err
    assert out == ''


def test_a_real_command_reports_an_error_in_one_line(tones_run: Path) -> None:
    command = [sys.executable, '-m', 'glr_jax.predict', f'--workdir={tones_run}', 'no/such.mp3']
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, '')
    assert re.fullmatch(r'glr_jax\.predict: no/such\.mp3 was not found\n', done.stderr)


@pytest.mark.slow
def test_tensorflow_is_not_imported_even_if_it_is_installed(
    tones: Path, tones_run: Path, tmp_path: Path
) -> None:
    (tmp_path / 'tensorflow').mkdir()
    (tmp_path / 'tensorflow' / '__init__.py').write_text('raise RuntimeError("was imported")')
    commands = [
        ['data_prep', f'--input={tones}', f'--out={tmp_path / "data"}', '--num_workers=1'],
        ['glr_jax.evaluate', f'--workdir={tones_run}'],
        ['glr_jax.predict', f'--workdir={tones_run}', str(tones / 'low' / '3.wav')],
    ]
    code = 'import runpy, sys\n' + ''.join(
        f'sys.argv = {command!r}\nrunpy.run_module({command[0]!r}, run_name="__main__")\n'
        for command in commands
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        env=os.environ | {'PYTHONPATH': str(tmp_path), 'GLIBC_TUNABLES': ''},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'accuracy' in done.stdout
