"""The page of a report: what it says, and how browsers show it."""

import base64
import dataclasses
import html
import http.server
import io
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from glr_jax import cli, metrics, report
from glr_jax.config import Config, DataConfig
from glr_jax.data.dataset import Dataset
from glr_jax.page import calibration, charts, headline, origin, pictures, protocol, wrong_clips
from glr_jax.page.audio_links import audio_file, link
from glr_jax.page.evidence import Evidence
from glr_jax.page.report_page import page
from tests import browser
from tests.browser import needs_chromium
from tests.conftest import make_dataset
from tests.test_report import EPOCHS, Page, floor
from tests.test_text import LABELS as HOSTILE

SPLIT = 'random-1'


def dataset_of(labels: tuple[str, ...], clips: int, folder: str = 'made') -> Dataset:
    """Clips of several lengths, two per group, all in the test side of a split."""
    rng = np.random.default_rng(0)
    mels = [rng.integers(0, 256, (40 + 7 * (k % 9), 2), np.uint8) for k in range(clips)]
    made = make_dataset(labels, [k % len(labels) for k in range(clips)], mels)
    changed = {
        'folder': folder,
        'splits': {SPLIT: ['test'] * clips},
        'groups': [f'group {k // 2}' for k in range(clips)],
    }
    for name, value in changed.items():
        object.__setattr__(made, name, value)
    return made


def evidence_of(dataset: Dataset, right: float = 0.5) -> Evidence:
    """Random probabilities, with a share of right decisions, and two segments per clip."""
    rng, clips, count = np.random.default_rng(1), len(dataset), len(dataset.labels)
    rows = rng.random((clips, count)) / count
    decided = np.where(rng.random(clips) < right, dataset.targets, rng.integers(0, count, clips))
    rows[np.arange(clips), decided] += rng.random(clips) + 1
    rows /= rows.sum(1, keepdims=True)

    def over_time(chosen: np.ndarray) -> list[tuple[Any, Any]]:
        return [
            (np.array([[0, 20], [20, len(dataset.mel(clip))]]), rows[[clip, clip]])
            for clip in chosen
        ]

    return Evidence(dataset, np.arange(clips), rows, over_time, parameters=1234)


def scores_of(evidence: Evidence) -> dict[str, Any]:
    found = metrics.scores(evidence.targets, evidence.decisions, evidence.dataset.labels)
    which = {'segment_accuracy': 0.5, 'split': SPLIT, 'side': 'test', 'step': 8}
    return found | which | {'dataset': evidence.dataset.folder, 'trained_on': 0}


def write(folder: Path, evidence: Evidence, **changes: Any) -> Path:
    """A page in a file."""
    scores, config = scores_of(evidence) | changes, Config(workdir=str(folder))
    shown = {'floor': floor(), 'evidence': evidence, 'folder': str(folder)}
    text = page(scores, report.headline(scores), config, EPOCHS, **shown)
    (folder / 'index.html').write_text(text)
    return folder / 'index.html'


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A page with names of all kinds; labels and ids of 200 characters without a space."""
    dataset = dataset_of((*HOSTILE, 'x' * 200), 120)
    dataset.ids[:] = [f'{HOSTILE[k % len(HOSTILE)]}/{k}\n' + 'y' * 200 for k in range(120)]  # type: ignore[index]
    return write(tmp_path, evidence_of(dataset))


def test_calibration_agrees_with_its_definition() -> None:
    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.random(200), [0.0, 1.0, 0.2, 0.4]])
    right = rng.random(204) < confidence
    found = calibration.calibration(confidence, right)
    error = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15) | (confidence == 0) * (k == 0)
        assert found.counts[k] == inside.sum()
        error += abs(right[inside].sum() - confidence[inside].sum()) / 204
        assert found.accuracy[k] == pytest.approx(right[inside].mean())
    assert found.error == pytest.approx(error)


def test_pictures_have_low_frequencies_at_the_bottom_and_one_scale() -> None:
    mel = np.full((10, 4), -80.0)
    mel[:, 0], mel[5:, 3] = 0, -40
    address = pictures.picture(mel, 5, (-80.0, 0.0))
    kind, _, data = address.partition(',')
    assert kind == 'data:image/png;base64'
    image = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)))
    assert image.shape[:2] == (4, 5)
    light = image[..., :3].sum(-1)
    assert (light[3] > 2).all()  # the lowest band is loud
    assert (light[1:3] < 0.1).all()
    assert (light[0, :2] < 0.1).all()
    assert (light[0, 3:] > 1).all()


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e30])
def test_pictures_of_any_values_are_drawn(value: float) -> None:
    mel = np.full((3, 2), value, np.float32)
    front_end = dataclasses.replace(make_dataset(('a',), [0]).front_end, mel_dtype='float32')
    limits = pictures.decibel_range([mel], front_end)
    assert limits[0] < limits[1]
    assert pictures.picture(mel, 9, limits)


def test_wrong_clips_are_the_surest_first_with_one_time_scale(tmp_path: Path) -> None:
    evidence = evidence_of(dataset_of(('a', 'b', 'c'), 90), right=0.2)
    text = wrong_clips.section(evidence, str(tmp_path))
    wrong = np.flatnonzero(evidence.targets != evidence.decisions)
    assert f'{len(wrong)} of 90 clips; shown are the 24' in text
    shown = re.findall(r'<bdi>clip (\d+)</bdi>', text)
    assert len(shown) == 24
    sure = evidence.probabilities.max(1)
    best = sorted(wrong, key=lambda clip: -sure[clip])[:24]
    assert [int(clip) for clip in shown] == best
    widths = [float(width) for width in re.findall(r'style="width:([\d.]+)%"\nsrc="data', text)]
    lengths = np.array([len(evidence.dataset.mel(clip)) for clip in best])
    np.testing.assert_allclose(widths, 100 * lengths / lengths.max(), atol=0.01)
    assert text.count('aria-label="probability over time"') == 24
    assert '<audio' not in text


def test_clips_that_are_all_right_need_no_pictures(tmp_path: Path) -> None:
    evidence = evidence_of(dataset_of(('a', 'b'), 6), right=1.0)
    text = write(tmp_path, evidence).read_text()
    assert 'all 6 clips were classified correctly' in text
    assert '<img' not in text


def test_a_player_stands_where_the_audio_is_at_hand(tmp_path: Path) -> None:
    dataset = dataset_of(('a', 'b'), 6, str(tmp_path / 'data'))
    dataset.ids[:] = ['a/ä #1.wav', 'b.1', '../c.wav', '/etc/d.wav', 'e.au', 'x' * 5000]  # type: ignore[index]
    for name in ('audio/a/ä #1.wav', 'audio/b.1.mp3', 'c.wav', 'e.au'):
        (tmp_path / 'data' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'data' / name).touch()
    found = [audio_file(dataset, id) for id in dataset.ids]
    assert [Path(path).name for path in found] == ['ä #1.wav', 'b.1.mp3', '', '', '', '']
    assert link(found[0], str(tmp_path / 'report')) == '../data/audio/a/%C3%A4%20%231.wav'
    text = write(tmp_path, evidence_of(dataset, right=0)).read_text()
    assert '<audio controls preload="none" src="data/audio/' in text


def test_flags_to_paste_give_the_same_config() -> None:
    given = ['--workdir=a b/$HOME', '--data.dir=it\'s "x"', '--model.norm=batch', '--seed=3']
    given += [
        '--train.epochs=7',
        '--model.front=conv',
        '--model.kernels=16,32',
        '--baselines=false',
        '--data.split=x y',
    ]
    config = Config(workdir='a b/$HOME')
    config = dataclasses.replace(
        config,
        seed=3,
        baselines=False,
        data=dataclasses.replace(config.data, dir='it\'s "x"', split='x y'),
        model=dataclasses.replace(config.model, norm='batch', front='conv', kernels=(16, 32)),
        train=dataclasses.replace(config.train, epochs=7),
    )
    shown = ' '.join(origin.flags(config, Config()))
    shell = subprocess.run(
        ['bash', '-c', f'printf "%s\\n" {shown}'], capture_output=True, text=True, check=True
    )
    lines = shell.stdout.splitlines()
    assert sorted(lines) == sorted(given)
    parsed = cli.parse(Config, ['train', *lines[1:]], '')
    assert dataclasses.replace(parsed, workdir=config.workdir) == config


@pytest.mark.parametrize(
    ('changes', 'flags'),
    [
        ({}, []),
        ({'split': 'random-2'}, ['--data.split=random-2']),
        ({'dataset': 'a b', 'split': 'all'}, ["--data.dir='a b'"]),
        ({'dataset': 'x', 'test_crops': 3}, ['--data.dir=x', '--data.test_crops=3']),
    ],
)
def test_the_command_that_scores_again_names_the_clips(
    tmp_path: Path, changes: dict[str, Any], flags: list[str]
) -> None:
    config = Config(workdir='runs/a', data=DataConfig(dir='data/a', split=SPLIT))
    scores = scores_of(evidence_of(dataset_of(('a', 'b'), 6))) | {'dataset': 'data/a'} | changes
    text = html.unescape(origin.section(scores, config, EPOCHS, None, str(tmp_path)))
    command = ' '.join(['<pre>python -m glr_jax.evaluate --workdir=runs/a', *flags])
    assert f'{command}</pre>' in text


def test_the_best_epoch_is_marked_whatever_the_log_says() -> None:
    text = charts.curves(EPOCHS, 8)
    assert 'best checkpoint: epoch 2' in text
    assert text.count('class="mark"') == text.count('<circle') == 2
    assert 'best checkpoint' not in charts.curves(EPOCHS, 9)
    strange = {'epoch': 10**400, 'step': 8, 'loss': -1e300, 'accuracy': 10**400}
    rows = [*EPOCHS, strange | {'validation_loss': True, 'validation_accuracy': -5}]
    assert 'nan' not in charts.curves(rows, 8)
    assert charts.curves([strange | {'validation_loss': 0, 'validation_accuracy': 0}], 8)


@pytest.mark.parametrize('text', ["a\nb'c\\", 'x\u202ey', 'é\x1b\udce9', 'plain', '$x `y`'])
def test_any_text_survives_the_shell(text: str) -> None:
    shown = origin.quoted(text)
    assert '\n' not in shown
    found = subprocess.run(['bash', '-c', f'printf %s {shown}'], capture_output=True, check=True)
    assert found.stdout == text.encode('utf-8', 'surrogateescape')


def test_the_protocol_counts_groups_on_two_sides() -> None:
    dataset = dataset_of(('a', 'b'), 8)
    sides = ['train', 'test', 'train', 'validation', 'test', 'test', 'train', '']
    object.__setattr__(dataset, 'splits', {SPLIT: sides, 'group-1': ['train'] * 6 + ['test'] * 2})
    evidence = evidence_of(dataset)
    scores, config = scores_of(evidence), Config(workdir='w')
    text = protocol.section(scores, config, evidence)
    assert '2 of 4 groups</strong> (artists) have clips on two sides or more' in text
    assert '1 of the 2 in test are in training too' in text
    assert 'None of the 4 groups' in protocol.section(
        scores | {'split': 'group-1'}, config, evidence
    )
    object.__setattr__(dataset, 'groups', ())
    assert 'names no groups' in protocol.section(scores, config, evidence)


def test_what_makes_scores_optimistic_is_said() -> None:
    scores = scores_of(evidence_of(dataset_of(('a', 'b'), 6)))
    assert protocol.warnings(scores) == []
    changes = {'side': 'validation', 'trained_on': 2, 'finished': False}
    changes |= {'changed_data': ['1 <clip> added'], 'unknown_labels': {'<new>': 1}}
    found = ' '.join(protocol.warnings(scores | changes))
    for words in ('not finished', 'validation clips', '2 of these 6', '1 &lt;clip&gt; added'):
        assert words in found
    assert '1 clip with the label <bdi>&lt;new&gt;</bdi>' in found


def test_the_scores_of_a_page_can_be_replaced_and_nothing_else() -> None:
    scores = scores_of(evidence_of(dataset_of(('a', 'b'), 6)))
    before = page(scores, 'one', Config(workdir='<!-- scores -->'), EPOCHS)
    section = headline.section(scores, 'two', floor())
    after = headline.replace(before, section)
    assert after == page(scores, 'two', Config(workdir='<!-- scores -->'), EPOCHS, floor=floor())
    assert 'SVM on statistics' in after
    assert headline.replace('<html>old</html>', section) == ''


@pytest.mark.parametrize('count', [1, 3])
def test_epochs_are_counted_in_correct_english(count: int) -> None:
    scores = scores_of(evidence_of(dataset_of(('a', 'b'), 6)))
    words = '1 epoch at batch' if count == 1 else '3 epochs at batch'
    assert words in page(scores, '', Config(workdir='w'), EPOCHS[:count])


def test_a_page_of_a_folder_of_runs_has_their_scores(tmp_path: Path) -> None:
    (tmp_path / 'a b' / 'report').mkdir(parents=True)
    (tmp_path / 'a b' / 'report' / 'index.html').touch()
    runs = [{'workdir': name, 'accuracy': 0.5} for name in ('a b', 'two')]
    evidence = evidence_of(dataset_of(('a', 'b'), 6))
    text = write(tmp_path, evidence, runs=runs, step=[3, 4]).read_text()
    assert '<a href="a%20b/report/index.html"><bdi>a b</bdi></a>' in text
    assert 'python -m glr_jax.compare' in text


@pytest.mark.parametrize('count', [2, 300])
def test_pages_of_few_and_of_many_labels_are_small(tmp_path: Path, count: int) -> None:
    labels = tuple(f'label {k}' for k in range(count))
    evidence = evidence_of(dataset_of(labels, 3000))
    text = write(tmp_path, evidence).read_text()
    assert len(text) < 3_000_000
    matrix = text.split('<section id="confusion">')[1].split('</svg>')[0]
    assert ('pointer-events' in matrix) == (count == 2)  # numbers in the cells


def test_a_page_names_nothing_that_is_elsewhere(hostile: Path) -> None:
    text = hostile.read_text()
    assert not re.findall(r'(?:src|srcset|poster|data)="(?!data:image/png;base64,)', text)
    assert not re.findall(r'url\(|@import|<link|<iframe|<object|<base', text)
    assert Page(text).tags.count('script') == 1


@needs_chromium
@pytest.mark.parametrize('dark', [False, True])
def test_a_page_fits_a_phone_and_is_light_or_dark(hostile: Path, dark: bool) -> None:
    script = """[innerWidth, document.documentElement.scrollWidth,
        document.documentElement.clientWidth, document.querySelectorAll("svg, img, table").length,
        getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"""
    inner, wide, room, many, paper, ink = browser.evaluate(hostile, script, width=390, dark=dark)
    assert (inner, wide) == (390, room)
    assert many > 30
    brightness = [sum(map(int, re.findall(r'\d+', color)[:3])) for color in (paper, ink)]
    assert (brightness[0] < 100 and brightness[1] > 600) == dark
    assert (brightness[0] > 700 and brightness[1] < 150) == (not dark)


@needs_chromium
@pytest.mark.parametrize('count', [2, 300])
def test_many_labels_scroll_inside_their_boxes(tmp_path: Path, count: int) -> None:
    evidence = evidence_of(dataset_of(tuple(f'label {k}' for k in range(count)), 900))
    path = write(tmp_path, evidence)
    for width in (390, 1280):
        script = '["scroll", "client"].map((s) => document.documentElement[s + "Width"])'
        wide, room = browser.evaluate(path, script, width=width)
        assert wide == room <= width


@needs_chromium
def test_tables_are_sorted_by_a_click(tmp_path: Path) -> None:
    evidence = evidence_of(dataset_of(('a', 'b', 'c', 'd'), 60))
    path = write(tmp_path, evidence)
    script = """[0, 1, 2].map((k) => {
        const table = document.querySelector("#labels table");
        const [label, , , f1] = table.querySelectorAll("th button");
        if (k) (k === 1 ? f1 : label).click();
        return [...table.tBodies[0].rows].map((row) => row.cells[0].textContent); })"""
    before, by_f1, by_label = browser.evaluate(path, script)
    rows = scores_of(evidence)['per_class']
    assert before == by_label == ['a', 'b', 'c', 'd']
    assert by_f1 == sorted(rows, key=lambda label: -rows[label]['f1'])


@needs_chromium
def test_the_policy_of_a_page_stops_every_request_and_foreign_script(tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = write(tmp_path, evidence_of(dataset_of(('a', 'b'), 6)))
        address = f'http://127.0.0.1:{server.server_port}'
        foreign = (
            f'<img src="{address}/image"><script src="{address}/script"></script>'
            f'<link rel="stylesheet" href="{address}/style"><img src="x" onerror="'
            'asked=1"><script>document.title="changed"</script></body>'
        )
        text = path.read_text()
        path.write_text(text.replace('</body>', foreign))
        shown = browser.run(path, '--dump-dom')
        policy = re.compile('<meta http-equiv="Content-Security-Policy"[^>]*>')
        assert asked == []
        assert '<title>changed' not in shown
        assert shown.count('<button>') > 5  # its own script ran
        path.write_text(policy.sub('', text).replace('</body>', foreign))
        assert '<title>changed' in browser.run(path, '--dump-dom')
        server.shutdown()
    assert '/image' in asked


@needs_chromium
def test_a_page_prints(hostile: Path) -> None:
    out = hostile.with_name('page.pdf')
    browser.run(hostile, f'--print-to-pdf={out}', dark=True)
    assert out.read_bytes().startswith(b'%PDF')
