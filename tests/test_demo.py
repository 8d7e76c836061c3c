"""The demo music: reproducible, with one label per clip or with several."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_prep import demo, demo_clips
from data_prep.styles import STYLES
from glr_jax.data.dataset import open_dataset
from glr_jax.data.mel import FrontEnd, mel_of_file
from tests.conftest import run


def test_the_demo_has_equally_many_clips_of_each_style() -> None:
    clips = demo_clips.demo_clips()
    assert len({clip.id for clip in clips}) == len(clips)
    counts = Counter(clip.label for clip in clips)
    assert len(counts) > 1
    assert set(counts.values()) == {demo_clips.CLIPS_PER_STYLE}


def test_a_demo_clip_is_reproducible_and_differs_from_the_next() -> None:
    one, two = demo_clips.demo_clips()[:2]
    mel = one.mel(FrontEnd())
    assert mel.shape[1:] == (128,)
    assert mel.max() == 255
    np.testing.assert_array_equal(demo_clips.demo_clips()[0].mel(FrontEnd()), mel)
    assert not np.array_equal(two.mel(FrontEnd()), mel)


def test_the_demo_leaves_a_test_clip_of_each_style_to_listen_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_clips, 'CLIPS_PER_STYLE', 3)
    out = run('', tmp_path / 'out', '--source=demo')
    data = open_dataset(str(out))
    names = sorted(path.stem for path in (out / 'audio').iterdir())
    assert names == sorted(data.ids[clip] for clip in data.members('random-1', 'test'))
    assert [name.split('.')[0] for name in names] == sorted(demo.STYLES)
    heard = mel_of_file(str(out / 'audio' / f'{names[0]}.wav'), data.front_end)
    stored = data.mel(list(data.ids).index(names[0]))
    assert np.abs(heard.astype(int) - stored.astype(int)).mean() < 1


# ---------------------------------------------------------------- several labels
def test_the_labels_are_the_style_the_tempo_the_mode_and_the_instruments() -> None:
    clips = demo_clips.tagged_demo_clips()
    assert len(clips) == len(STYLES) * demo_clips.TAGGED_CLIPS_PER_STYLE
    counts = Counter(label for clip in clips for label in clip.labels)
    assert all(counts[style] == demo_clips.TAGGED_CLIPS_PER_STYLE for style in STYLES)
    assert sum(counts[f'{band} tempo'] for band in ('slow', 'medium', 'fast')) == len(clips)
    assert counts['major mode'] + counts['minor mode'] < len(clips)  # metal has neither
    assert min(counts.values()) >= 10
    assert 4 < np.mean([len(clip.labels) for clip in clips]) < 7


@pytest.mark.parametrize('style', STYLES)
def test_traits_leave_only_themselves_open(style: str) -> None:
    melodies = set()
    for seed in range(12):
        traits = demo_clips.draw_traits(style, seed)
        assert traits == demo_clips.draw_traits(style, seed)
        narrow = traits.within(STYLES[style])
        assert narrow.tempo == (traits.tempo, traits.tempo)
        assert set(narrow.progressions) == {traits.progression}
        has_melody = any('o' in pattern for pattern in narrow.lead)
        assert has_melody == all('o' in pattern for pattern in narrow.lead)
        assert len(traits.instruments) == 2 + has_melody
        assert narrow.instruments[: len(traits.instruments)] == traits.instruments
        melodies.add(has_melody)
    assert melodies == {True, False}


def test_a_clip_sounds_as_its_traits_say() -> None:
    one, two = (demo_clips.tagged_demo_clips()[k] for k in (0, 1))
    mel = one.mel(FrontEnd())
    np.testing.assert_array_equal(one.mel(FrontEnd()), mel)
    assert not np.array_equal(two.mel(FrontEnd()), mel)
    assert not np.array_equal(demo_clips.demo_clips()[0].mel(FrontEnd()), mel)
    traits = demo_clips.draw_traits('blues', 3)
    silent = demo.synthesise('blues', 3, 8000, traits.within)
    np.testing.assert_array_equal(silent, demo.synthesise('blues', 3, 8000, traits.within))


@pytest.mark.slow
def test_the_demo_with_several_labels_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_clips, 'TAGGED_CLIPS_PER_STYLE', 6)
    out = run('', tmp_path / 'out', '--source=demo_tags')
    data = open_dataset(str(out))
    assert data.multi_label
    for clip, name in enumerate(data.ids):
        style, seed = name.split('.')
        assert data.labels_of(clip) == demo_clips.draw_traits(style, int(seed)).labels
    names = sorted(path.stem for path in (out / 'audio').iterdir())
    assert set(names) <= {data.ids[clip] for clip in data.members('random-1', 'test')}
