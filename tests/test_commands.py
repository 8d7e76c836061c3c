"""The real commands on small real input, from audio files to predictions."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from data_prep.__main__ import main as prepare
from glr_jax import evaluate, predict, train
from glr_jax.errors import UserError

SMALL = [
    *('--data.frames=32', '--train.batch_size=8', '--train.epochs=6'),
    *('--model.kernels=16,16', '--model.hidden=16', '--train.learning_rate=0.01'),
]


def command(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-m', module, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def tone(path: Path, hertz: float, seconds: float, rate: int = 22050, channels: int = 1) -> None:
    time_axis = np.arange(int(rate * seconds)) / rate
    noise = np.random.default_rng(int(hertz)).standard_normal((len(time_axis), channels))
    wave = 0.5 * np.sin(2 * np.pi * hertz * time_axis)[:, None] + 0.02 * noise
    soundfile.write(path, wave, rate)


def remake(source: Path, path: Path, seconds: float, rate: int = 22050, channels: int = 1) -> Path:
    """The same music in another length, sample rate and channel count."""
    samples, old_rate = soundfile.read(source)
    samples = np.resize(samples, int(old_rate * seconds))
    if rate != old_rate:
        samples = librosa.resample(samples, orig_sr=old_rate, target_sr=rate)
    soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), rate)
    return path


@pytest.fixture(scope='module')
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels told apart by their pitch, ten clips each."""
    folder = tmp_path_factory.mktemp('music')
    for label, hertz in (('high', 3000), ('low', 200), ('middle', 900)):
        (folder / label).mkdir()
        for k in range(10):
            tone(folder / label / f'{k}.wav', hertz * (1 + 0.02 * k), 1.0 + 0.1 * k)
    return folder


@pytest.fixture(scope='module')
def dataset(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('data') / 'tones'
    prepare(['data_prep', '--source=folder', f'--input={music}', f'--out={out}'])
    return out


@pytest.fixture(scope='module')
def workdir(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp('runs') / 'tones'
    train.main(['train', f'--workdir={folder}', f'--data.dir={dataset}', *SMALL])
    return folder


def test_a_run_leaves_all_that_it_should(workdir: Path) -> None:
    metrics = json.loads((workdir / 'report' / 'metrics.json').read_text())
    assert metrics['accuracy'] == 1.0
    assert metrics['num_clips'] == 3
    assert metrics['labels'] == ['high', 'low', 'middle']
    assert metrics['confusion'] == np.eye(3, dtype=int).tolist()
    assert (metrics['split'], metrics['side']) == ('random-1', 'test')
    assert {'macro_f1', 'precision', 'recall', 'per_class', 'step'} <= set(metrics)
    page = (workdir / 'report' / 'index.html').read_text()
    assert page.count('<svg') == 2
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert [row['epoch'] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]['loss'] < rows[0]['loss']
    assert any('tfevents' in name for name in os.listdir(workdir / 'tensorboard'))
    with open(workdir / 'report' / 'predictions.csv', newline='') as file:
        assert [row['label'] for row in csv.DictReader(file)] == ['high', 'low', 'middle']


def test_the_newest_and_the_best_checkpoint_are_kept(workdir: Path) -> None:
    steps = sorted(int(name) for name in os.listdir(workdir / 'checkpoints') if name.isdigit())
    best = json.loads((workdir / 'report' / 'metrics.json').read_text())['step']
    assert 1 <= len(steps) <= 2
    assert steps[-1] == 18
    assert best in steps


def test_a_finished_run_says_so_and_keeps_its_report(
    workdir: Path, dataset: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (workdir / 'report' / 'metrics.json').read_text()
    train.main(['train', f'--workdir={workdir}', f'--data.dir={dataset}', *SMALL])
    assert 'is finished' in capfd.readouterr().err
    assert (workdir / 'report' / 'metrics.json').read_text() == before


def test_a_run_stopped_by_sigterm_goes_on_as_if_it_had_not_been(
    workdir: Path, dataset: Path, tmp_path: Path
) -> None:
    arguments = ['glr_jax.train', f'--workdir={tmp_path / "run"}', f'--data.dir={dataset}', *SMALL]
    arguments.append('--parallel.cpu_devices=8')
    process = subprocess.Popen(
        [sys.executable, '-m', *arguments], stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / 'run' / 'metrics.jsonl'
    for _ in range(1200):
        if log.exists() and log.read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    if process.returncode:  # unless it was done before the signal came
        assert 'goes on from here' in errors
        assert not (tmp_path / 'run' / 'report').exists()
        again = command(*arguments)
        assert again.returncode == 0, again.stderr
        assert 'going on at step' in again.stderr

    def losses(folder: Path) -> list[float]:
        lines = (folder / 'metrics.jsonl').read_text().splitlines()
        return [json.loads(line)['loss'] for line in lines]

    assert losses(tmp_path / 'run') == pytest.approx(losses(workdir), rel=1e-6)


def test_a_run_killed_before_its_report_only_reports(
    workdir: Path, dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / 'run'
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / 'report')
    config = json.loads((copy / 'config.json').read_text())
    (copy / 'config.json').write_text(json.dumps(config | {'workdir': str(copy)}))
    train.main(['train', f'--workdir={copy}', f'--data.dir={dataset}', *SMALL])
    out, err = capfd.readouterr()
    assert 'accuracy 1.000' in out
    assert 'epoch' not in err


def test_a_dataset_prepared_otherwise_is_refused_by_evaluation_and_by_going_on(
    workdir: Path, music: Path, tmp_path: Path
) -> None:
    data, words = f'--data.dir={tmp_path / "data"}', r'with --htk=True, but .* on --htk=False'
    prepare(['data_prep', f'--input={music}', f'--out={tmp_path / "data"}', '--htk'])
    with pytest.raises(UserError, match=words):
        evaluate.main(['evaluate', f'--workdir={workdir}', data])
    copy = tmp_path / 'run'
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / 'report')
    config = json.loads((copy / 'config.json').read_text()) | {'workdir': str(copy)}
    config['data']['dir'] = str(tmp_path / 'data')
    (copy / 'config.json').write_text(json.dumps(config))
    with pytest.raises(UserError, match=words):
        train.main(['train', f'--workdir={copy}', data, *SMALL])


def test_a_wrong_split_leaves_no_workdir_behind(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='there are random-1'):
        train.main(
            ['train', f'--workdir={tmp_path / "w"}', f'--data.dir={dataset}', '--data.split=x']
        )
    assert not (tmp_path / 'w').exists()


def test_evaluating_another_protocol_counts_the_clips_trained_on(
    workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate.main(['evaluate', f'--workdir={workdir}', '--data.split=random-2'])
    out, err = capfd.readouterr()
    metrics = json.loads((workdir / 'report' / 'random-2' / 'metrics.json').read_text())
    assert metrics['trained_on'] > 0
    assert f'{metrics["trained_on"]} of these 3 clips were trained on' in err
    assert 'accuracy 1.000' in out


@pytest.mark.parametrize('format', ['table', 'json', 'csv'])
def test_predicting_any_length_rate_and_channel_count(
    workdir: Path, music: Path, tmp_path: Path, format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [
        remake(music / 'low' / '3.wav', tmp_path / 'short low.wav', seconds=0.2),
        remake(music / 'high' / '3.wav', tmp_path / 'long high.flac', 20, rate=44100, channels=2),
        remake(music / 'middle' / '3.wav', tmp_path / 'six.wav', 2.0, rate=8000, channels=6),
    ]
    predict.main(['predict', f'--workdir={workdir}', f'--format={format}', *map(str, files)])
    out = capfd.readouterr().out
    expected = ['low', 'high', 'middle']
    if format == 'json':
        rows = json.loads(out)
        assert [row['path'] for row in rows] == list(map(str, files))
        assert [row['label'] for row in rows] == expected
        assert all(sum(row['probabilities'].values()) == pytest.approx(1) for row in rows)
    elif format == 'csv':
        rows = list(csv.DictReader(out.splitlines()))
        assert [row['label'] for row in rows] == expected
    else:
        assert [line.split()[0] for line in out.splitlines()] == expected


def test_predicting_a_folder_goes_on_past_a_bad_file(
    workdir: Path, music: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tone(tmp_path / 'good.wav', 200, 1.0)
    (tmp_path / 'bad.mp3').write_text('not music')
    with pytest.raises(UserError, match='1 of 2 files could not be tagged'):
        predict.main(['predict', f'--workdir={workdir}', str(tmp_path)])
    out, err = capfd.readouterr()
    assert 'good.wav' in out
    assert 'bad.mp3: cannot be decoded as audio' in err


def test_a_prediction_does_not_depend_on_the_files_beside_it(
    workdir: Path, music: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, folder = str(music / 'low' / '3.wav'), str(music)
    predict.main(['predict', f'--workdir={workdir}', '--format=csv', one])
    alone = capfd.readouterr().out.splitlines()[1]
    predict.main(['predict', f'--workdir={workdir}', '--format=csv', folder])
    assert alone in capfd.readouterr().out.splitlines()


def test_a_model_of_ready_made_spectrograms_cannot_tag_audio(music: Path, tmp_path: Path) -> None:
    rng, labels = np.random.default_rng(0), np.repeat(['a', 'b'], 10)
    mel = rng.integers(0, 256, (20, 40, 16), np.uint8)
    np.savez(tmp_path / 'x.npz', mel=mel, label=labels, id=[f'{k}' for k in range(20)])
    data, run = f'{tmp_path / "data"}', f'--workdir={tmp_path / "run"}'
    prepare(['data_prep', '--source=arrays', f'--input={tmp_path / "x.npz"}', f'--out={data}'])
    train.main(['train', run, f'--data.dir={data}', *SMALL, '--train.epochs=1'])
    with pytest.raises(UserError, match='ready-made spectrograms'):
        predict.main(['predict', run, str(music / 'low' / '3.wav')])


@pytest.mark.parametrize(
    ('module', 'arguments', 'code', 'words'),
    [
        ('glr_jax.train', ['--model.nrom=glr'], 2, 'model.nrom'),
        ('glr_jax.train', ['--flagfile=no/such.flags'], 2, 'no/such.flags'),
        ('glr_jax.train', ['--workdir=w', '--data.dir=no/such'], 1, 'python -m data_prep'),
        ('glr_jax.train', ['--workdir={workdir}', '--data.dir={dataset}'], 1, 'frames=32'),
        (
            'glr_jax.train',
            ['--workdir={tmp}/w', '--data.dir={dataset}', '--data.split=odd'],
            1,
            'group-1|random-1, random-2, random-3',
        ),
        ('glr_jax.evaluate', ['--workdir=no/such'], 1, 'no/such'),
        ('glr_jax.evaluate', [], 2, '--workdir'),
        ('glr_jax.predict', ['--workdir=no/such', '{music}'], 1, 'no/such'),
        ('glr_jax.predict', ['--workdir={workdir}', 'no/such.mp3'], 1, 'no/such.mp3'),
        ('glr_jax.predict', ['--workdir={workdir}'], 2, 'file or a folder'),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_and_an_exit_code(
    module: str,
    arguments: list[str],
    code: int,
    words: str,
    workdir: Path,
    dataset: Path,
    music: Path,
    tmp_path: Path,
) -> None:
    names = {'workdir': workdir, 'dataset': dataset, 'music': music, 'tmp': tmp_path}
    done = command(module, *(argument.format(**names) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert any(word in done.stderr for word in words.split('|')), done.stderr
    assert done.stdout == ''


def test_importing_the_package_is_quick() -> None:
    start = time.monotonic()
    subprocess.run([sys.executable, '-c', 'import glr_jax'], check=True)
    assert time.monotonic() - start < 3


def test_tensorflow_is_not_imported_even_where_it_is_installed(
    music: Path, workdir: Path, tmp_path: Path
) -> None:
    trap = tmp_path / 'tensorflow'
    trap.mkdir()
    (trap / '__init__.py').write_text('raise RuntimeError("tensorflow was imported")')
    for module, arguments in {
        'data_prep': ['--source=folder', f'--input={music}', f'--out={tmp_path / "data"}'],
        'glr_jax.evaluate': [f'--workdir={workdir}'],
        'glr_jax.predict': [f'--workdir={workdir}', str(music / 'low' / '3.wav')],
    }.items():
        done = command(module, *arguments, PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, done.stderr
