"""Pages of spectrograms: no text meets another, and all pictures have one scale."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from data_prep import pictures
from glr_jax.data.dataset import Dataset
from tests.conftest import make_dataset

LABELS = [
    'rock',
    'W' * 60,
    '電子音楽' * 12,
    'Música Popular Brasileira, live, 1959 to 1966',
    '',
    'x$y$',
]
IDS = ['a.wav', 'W' * 200, 'とても長い' * 30, 'Artist - ' * 20, '$x$ \\frac']


def made(labels: list[str], clips: int = 5, frames: int = 1292) -> tuple[Dataset, np.ndarray]:
    """Clips of each label with long names; every third has four times as many frames."""
    targets = [k for k in range(len(labels)) for _ in range(clips)]
    lengths = np.asarray([frames * (4 if k % 3 == 2 else 1) for k in range(len(targets))])
    mels = [np.full((length, 2), 100 + k, np.uint8) for k, length in enumerate(lengths)]
    dataset = make_dataset(labels, targets, mels)
    ids = [f'{labels[t]}/{IDS[k % len(IDS)]}{k}' for k, t in enumerate(targets)]
    changed = dataclasses.replace(dataset, ids=ids)
    object.__setattr__(changed, 'mels', mels)
    return changed, lengths


def page_of(dataset: Dataset, lengths: np.ndarray, labels: int) -> Figure:
    chosen = {label: pictures.choose(dataset, label) for label in range(labels)}
    clips = [clip for some in chosen.values() for clip in some]
    scale = pictures.scale_of(dataset, lengths, clips)
    figure = pictures._page(dataset, chosen, pictures.PICTURES, scale)
    figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize('frames', [100, 1292, 4306])
@pytest.mark.filterwarnings('ignore:Glyph')
def test_no_text_meets_another_or_leaves_the_page(frames: int) -> None:
    figure = page_of(*made(LABELS, frames=frames), len(LABELS))
    figure.set_dpi(120)
    figure.draw_without_rendering()
    beyond = [
        label
        for axes in figure.axes
        for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if tick > axes.get_xlim()[1]
    ]
    texts = [text for text in figure.findobj(Text) if text.get_text() and text not in beyond]
    texts = [text for text in texts if text.get_window_extent().width > 1]  # 1: never drawn
    boxes = [text.get_window_extent() for text in texts]
    page = figure.bbox
    for box in boxes:
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert page.y0 <= box.y0 < box.y1 <= page.y1
    for (one, text), (other, second) in itertools.combinations(zip(boxes, texts, strict=True), 2):
        assert not one.overlaps(other), (text.get_text(), second.get_text())


@pytest.mark.filterwarnings('ignore:Glyph')
def test_all_pictures_share_the_scale_of_seconds_and_the_colours() -> None:
    dataset, lengths = made(LABELS)
    axes = [ax for ax in page_of(dataset, lengths, 6).axes if ax.images]
    assert len(axes) == pictures.PICTURES
    assert {ax.get_xlim() for ax in axes} == {axes[0].get_xlim()}
    assert {ax.get_xlabel() for ax in axes} == {'seconds'}
    shown = [image for ax in axes for image in ax.images]
    assert {image.get_clim() for image in shown} == {(-80, 0)}
    seconds = {round(image.get_extent()[1], 2) for image in shown}
    assert seconds == {round(n * 512 / 22050, 2) for n in (1292, 4 * 1292)}
    cut = [text.get_text() for ax in axes for text in ax.texts if 'of 1' in text.get_text()]
    assert cut == ['of 120 seconds'] * len([i for i in shown if i.get_extent()[1] > 90])


def test_the_axis_shows_the_longest_clip_unless_it_is_far_longer_than_most() -> None:
    dataset, _ = made(['a'])
    end = lambda *frames: pictures.scale_of(
        dataclasses.replace(dataset, from_audio=False), np.asarray(frames, int), range(len(frames))
    )
    assert (end(10, 10, 25).end, end(10, 10, 25).unit) == (25, 'frames')
    assert end(10, 10, 1000).end == 30
    assert end().end == 1


def test_ready_made_float_spectrograms_have_their_own_range() -> None:
    dataset, lengths = made(['a'], clips=2, frames=4)
    front_end = dataclasses.replace(dataset.front_end, mel_dtype='float32')
    mels = [np.full((4, 2), value, np.float32) for value in (-3, 7)]
    changed = dataclasses.replace(dataset, front_end=front_end)
    object.__setattr__(changed, 'mels', mels)
    scale = pictures.scale_of(changed, lengths, [0, 1])
    assert (scale.low, scale.high) == (-3, 7)


def test_few_clips_are_drawn_once_each_and_a_label_without_clips_has_none() -> None:
    dataset = make_dataset(['a', 'b', 'c'], [0, 0, 2, 2, 2, 2, 2])
    assert [pictures.choose(dataset, label) for label in range(3)] == [[0, 1], [], [2, 3, 4, 6]]


@pytest.mark.filterwarnings('ignore:Glyph')
def test_many_labels_take_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, 'LABELS_PER_PAGE', 2)
    monkeypatch.setattr(pictures, 'MOST_LABELS', 5)
    dataset, lengths = made(LABELS, clips=1, frames=20)
    paths = pictures.draw(dataset, lengths, str(tmp_path / 'mels.png'))
    assert [Path(path).name for path in paths] == ['mels-1.png', 'mels-2.png', 'mels-3.png']
    assert all(Path(path).read_bytes()[:4] == b'\x89PNG' for path in paths)
    assert 'only the first 5 of 6 labels are drawn' in capfd.readouterr().err


def test_a_text_is_shortened_in_its_middle_to_fit() -> None:
    width = pictures.width_of('0123456789', 7)
    assert pictures.fitted('0123456789', width, 7) == '0123456789'
    short = pictures.fitted('0123456789' * 9, width, 7)
    assert short.startswith('0123')
    assert short.endswith('6789')
    assert '…' in short
    assert pictures.width_of(short, 7) <= width
    assert pictures.fitted('W', 0, 7) == '…'
