"""Tagging from Python: files, lists and samples, whatever they are given as."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import glr_jax
from glr_jax import evaluate, report
from glr_jax.data.audio import load_audio
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import ClipError, UserError
from glr_jax.tagger import Failure, Tagger, decide
from glr_jax.trained import restore, thresholds
from tests.test_commands import remake


@pytest.fixture(scope='module')
def tagger(tones_run: Path) -> Tagger:
    return glr_jax.load(tones_run)


def test_a_file_a_list_and_samples_give_the_same_prediction(tagger: Tagger, tones: Path) -> None:
    path = tones / 'low' / '3.wav'
    samples, rate = soundfile.read(path, dtype='float32')
    one = tagger(path)
    many = tagger([str(path), (samples, rate), str(tones / 'high' / '1.wav')])
    assert one.path == str(path)
    assert [each.label for each in many] == ['low', 'low', 'high']
    for each in many[:2]:
        np.testing.assert_allclose(each.clip, one.clip, atol=1e-6)
    assert one.labels == tagger.labels == ('high', 'low', 'middle')
    assert one.top(2) == sorted(one.probabilities.items(), key=lambda pair: -pair[1])[:2]
    assert sum(one.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    'change',
    [
        lambda x: (x * 32767).astype(np.int16),
        lambda x: ((x + 1) * 127.5).astype(np.uint8),
        lambda x: np.stack([x, x]),
        lambda x: np.stack([x, x, x], 1),
        lambda x: x.astype(np.float64).tolist(),
    ],
    ids=['int16', 'uint8', 'channels first', 'channels last', 'a list'],
)
def test_samples_of_any_kind(tagger: Tagger, tones: Path, change: Any) -> None:
    samples, rate = soundfile.read(tones / 'low' / '3.wav', dtype='float32')
    found = tagger((change(samples), rate))
    assert found.label == 'low'
    np.testing.assert_allclose(found.clip, tagger((samples, rate)).clip, atol=0.2)


def test_samples_at_another_rate_are_resampled_as_a_file_is(
    tagger: Tagger, tones: Path, tmp_path: Path
) -> None:
    path = remake(tones / 'low' / '3.wav', tmp_path / 'x.wav', 2.0, rate=44100)
    samples, rate = soundfile.read(path, dtype='float32')
    assert rate == 44100
    np.testing.assert_allclose(tagger((samples, rate)).clip, tagger(path).clip, atol=1e-6)


@pytest.mark.parametrize(
    ('audio', 'words'),
    [
        ('missing.wav', 'missing.wav: cannot be read: No such file'),
        ((np.zeros(44100), 22050), 'the samples: is silent'),
        ((np.zeros((2, 2, 2)), 22050), 'the samples: samples must be numbers on one axis'),
        ((np.full(44100, np.nan), 22050), 'NaN'),
        ((np.ones(44100), 0), 'sample rate must be a whole number of Hz, not 0'),
        ((np.ones(44100), 1), 'has a sample rate of 1 Hz'),
        ((np.ones((100, 100)), 22050), 'has 100 channels'),
        ((np.array(['a']), 22050), 'samples must be numbers'),
    ],
)
def test_what_cannot_be_tagged_is_said(tagger: Tagger, audio: Any, words: str) -> None:
    with pytest.raises(ClipError, match=words):
        tagger(audio)


@pytest.mark.parametrize(
    ('audio', 'words'),
    [
        (5, 'list of these; not 5, of type int'),
        (None, 'not None, of type NoneType'),
        (b'song.wav', "not b'song.wav', of type bytes"),
        (['song.wav', 5], 'not 5, of type int'),
        (io.BytesIO(b'RIFF'), 'an open file is not accepted: give its path'),
        (['song.wav', io.BytesIO()], 'an open file is not accepted: give its path'),
        (np.zeros(3), r'samples alone lack their rate: \(samples, 44100\)'),
        ([np.zeros(3)], 'samples alone lack their rate'),
        ((np.zeros(3),), r'not \(array\(\[0., 0., 0.\]\),\), of type tuple'),
    ],
)
def test_anything_but_audio_is_refused_with_what_is_accepted(
    tagger: Tagger, audio: Any, words: str, tones: Path
) -> None:
    if isinstance(audio, list):
        audio = [str(tones / 'low' / '3.wav') if isinstance(x, str) else x for x in audio]
    accepted = r'^audio must be the path of a file, samples with .* \(samples, sample_rate\), or a '
    with pytest.raises(TypeError, match=f'{accepted}.*{words}'):
        tagger(audio)


def test_a_tagger_shows_its_network_and_labels(
    tagger: Tagger, tones_run: Path, tmp_path: Path
) -> None:
    network = f'crnn of {tones_run} at step 18'
    assert repr(tagger) == f'Tagger({network}; 3 labels: high, low, middle)'
    for name in ('one', 'two'):
        (tmp_path / name).symlink_to(tones_run)
    assert repr(glr_jax.load(tmp_path)) == (
        f'Tagger({network} and 1 more network, averaged; 3 labels: high, low, middle)'
    )


def test_the_files_beside_a_bad_one_are_tagged_and_the_order_is_kept(
    tagger: Tagger, tones: Path
) -> None:
    good = [str(tones / 'low' / f'{k}.wav') for k in range(3)]
    found = list(tagger.tag([good[0], 'no.wav', *good[1:], 'no 2.wav']))
    assert [each.path for each in found] == [good[0], 'no.wav', *good[1:], 'no 2.wav']
    assert [isinstance(each, Failure) for each in found] == [False, True, False, False, True]
    assert list(tagger.tag([])) == []


def test_files_are_read_only_as_far_as_the_next_batch_needs(tagger: Tagger, tones: Path) -> None:
    path, read = str(tones / 'low' / '3.wav'), []
    endless = iter(lambda: read.append(path) or path, None)
    next(tagger.tag(endless))
    assert 1 <= len(read) <= 16


def test_over_time_has_the_segments_in_seconds(
    tagger: Tagger, tones_run: Path, tones: Path
) -> None:
    samples = np.concatenate(
        [load_audio(str(tones / name / '3.wav'), 22050)[:22050] for name in ('low', 'high')] * 4
    )
    found = tagger((samples, 22050))
    moments = found.over_time()
    assert len(moments) == len(found.segments) > 1
    assert moments[0].start == 0
    assert moments[-1].end == pytest.approx(8, abs=0.05)
    assert all(one.end > one.start for one in moments)
    assert all(one.label == max(one.probabilities, key=one.probabilities.get) for one in moments)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.segments.mean(0), found.clip)
    finer = glr_jax.load(tones_run, test_crops=3)((samples, 22050))
    assert len(finer.segments) == 3 * len(moments)


def test_the_embedding_of_a_clip_is_its_own(tagger: Tagger, tones: Path) -> None:
    low, again, high = (
        tagger(tones / name).embedding for name in ('low/3.wav', 'low/3.wav', 'high/3.wav')
    )
    np.testing.assert_array_equal(low, again)
    assert low.ndim == 1
    assert np.abs(low - high).max() > 0.01


def test_predictions_equal_those_of_the_report(
    tagger: Tagger, tones_run: Path, tones: Path
) -> None:
    evaluate.main(['evaluate', f'--workdir={tones_run}'])
    with open(tones_run / 'report' / 'predictions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        found = tagger(tones / row['id'])
        assert found.label == row['decision']
        for label, probability in found.probabilities.items():
            assert float(row[label]) == pytest.approx(probability, abs=1e-4)


def test_several_networks_are_averaged(tagger: Tagger, tones: Path) -> None:
    path = tones / 'middle' / '2.wav'
    both = Tagger.__new__(Tagger)
    vars(both).update(vars(tagger), _predictors=tagger._predictors * 2)
    np.testing.assert_allclose(both(path).clip, tagger(path).clip)
    assert len(both(path).embedding) == 2 * len(tagger(path).embedding)


def test_a_workdir_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(tmp_path)):
        glr_jax.load(tmp_path)


def test_the_decided_labels_are_those_at_or_above_their_thresholds() -> None:
    found = {'a': 0.2, 'b': 0.9, 'c': 0.5, 'd': 0.5}
    assert decide(found, (0.3, 0.9, 0.6, 0.5)) == ('b', 'd')
    assert decide(found, (0.3, 0.9, 0.6, 0.5), 0.5) == ('b', 'c', 'd')
    assert decide(found, (1.0, 1.0, 1.0, 1.0)) == ()
    assert decide(found, ()) == decide(found, (), 0.9) == ('b',)
    assert decide(found, (), 0.91) == ()


@pytest.fixture(scope='module')
def several(tagged_run: Path) -> Tagger:
    return glr_jax.load(tagged_run)


def test_a_clip_may_have_several_labels_or_none(
    several: Tagger, tagged_run: Path, chords: Path, tagger: Tagger
) -> None:
    (run,) = restore(str(tagged_run))
    assert several.multi_label
    assert several.thresholds == run.meta.thresholds
    assert repr(several).endswith('; 3 labels, any number per clip: high, low, middle)')
    found = several(chords / '3.wav')
    wanted = [
        label
        for label, threshold in zip(several.labels, several.thresholds, strict=True)
        if found.probabilities[label] >= threshold
    ]
    assert sorted(found.decided) == wanted
    assert found.label == found.top(1)[0][0]
    assert repr(found).endswith(f'; {len(wanted)} of 3 labels decided)')
    for moment in found.over_time():
        assert moment.decided == decide(moment.probabilities, several.thresholds)
    one = tagger(chords / '1.wav')
    assert one.decided == (one.label,)
    assert 'decided' not in repr(one)


def test_the_decided_labels_equal_those_of_the_report(
    several: Tagger, tagged_run: Path, tagged_dataset: Path, chords: Path
) -> None:
    scores = report.read(str(tagged_run))
    dataset = open_dataset(str(tagged_dataset))
    clips = dataset.members(scores['split'], scores['side'])
    found = several([str(chords / dataset.ids[clip]) for clip in clips])
    has = dataset.has_label()[clips]
    for k, (label, row) in enumerate(scores['per_class'].items()):
        decided = np.array([label in each.decided for each in found])
        assert (decided.sum(), (decided & has[:, k]).sum()) == (row['decided'], row['correct'])


def test_several_networks_have_the_mean_of_their_thresholds(tagged_run: Path) -> None:
    (run,) = restore(str(tagged_run))
    changed = lambda limits: run._replace(meta=dataclasses.replace(run.meta, thresholds=limits))
    assert thresholds([changed((0.2, 0.4, 0.6)), changed((0.4, 0.4, 0.8))]) == pytest.approx(
        (0.3, 0.4, 0.7)
    )
    assert thresholds([changed(())]) == (0.5, 0.5, 0.5)
