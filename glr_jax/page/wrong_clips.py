"""The clips that were classified wrongly: how they look, and what was decided when."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from glr_jax.data.dataset import Dataset
from glr_jax.data.mel import decode
from glr_jax.page.audio_links import player
from glr_jax.page.charts import round_ticks
from glr_jax.page.evidence import Evidence
from glr_jax.page.markup import name, plain
from glr_jax.page.pictures import COLUMNS, decibel_range, gradient, picture

SHOWN = 24
LONGEST = 60.0  # seconds of a clip that are shown
_FRAMES_PER_SECOND = 43  # to show frames, if it is not known how long one is


class Wrong(NamedTuple):
    """A clip that was decided wrongly.

    Attributes:
      row: its row in the evidence.
      caption: what was decided and what is true, as HTML.
      lines: the labels whose probability over time is drawn, each with the class of its line.
      label: the label that may be the name of its folder of audio.
    """

    row: int
    caption: str
    lines: Sequence[tuple[str, int]]
    label: str


class _Scale(NamedTuple):
    """The time axis of all clips.

    Attributes:
      frame: length of a frame in the unit.
      unit: seconds or frames.
      mark: of a number in this unit.
      end: where the axis ends.
    """

    frame: float
    unit: str
    mark: str
    end: float


def section(evidence: Evidence, folder: str) -> str:
    """The wrong clips, those with the most probable decisions first.

    Args:
      evidence: the clips that were scored.
      folder: of the page, for links to audio.
    """
    targets, decisions = evidence.targets, evidence.decisions
    wrong = np.flatnonzero(targets != decisions)
    if not len(wrong):
        return f'<p>None: all {len(targets):,} clips were classified correctly.</p>'
    sure = evidence.probabilities[wrong, decisions[wrong]]
    shown = wrong[np.argsort(-sure, kind='stable')][:SHOWN]
    most = (
        ''
        if len(shown) == len(wrong)
        else f'; shown are the {SHOWN} whose wrong decision is most probable'
    )
    summary = f"""<p>{len(wrong):,} of {len(targets):,} clips{most}. The surest mistakes come
first. All clips are in <a href="predictions.csv">predictions.csv</a>.</p>"""
    keys = ('the label decided', 'the true label')
    return summary + cards(evidence, [_wrong(evidence, k) for k in shown], keys, folder)


def _wrong(evidence: Evidence, k: int | np.integer) -> Wrong:
    row, target, decision = (
        evidence.probabilities[k],
        int(evidence.targets[k]),
        int(evidence.decisions[k]),
    )
    labels = evidence.dataset.labels
    caption = f"""decided <strong>{name(labels[decision])}</strong> {row[decision]:.2f}; true label
<strong>{name(labels[target])}</strong> {row[target]:.2f}"""
    return Wrong(int(k), caption, [('one', target), ('two', decision)], labels[target])


def cards(evidence: Evidence, wrong: Sequence[Wrong], keys: tuple[str, str], folder: str) -> str:
    """How clips look, and what was decided when.

    Args:
      evidence: the clips that were scored.
      wrong: some of them, at least one.
      keys: what the lines of the classes 'two' and 'one' are.
      folder: of the page, for links to audio.
    """
    dataset = evidence.dataset
    chosen = evidence.clips[[each.row for each in wrong]]
    over_time = evidence.over_time(chosen)
    scale = _scale(dataset, [int(spans[-1, 1]) for spans, _ in over_time])
    kept = round(scale.end / scale.frame)
    mels = [decode(dataset.mel(clip)[:kept], dataset.front_end) for clip in chosen]
    limits = decibel_range(mels, dataset.front_end)
    drawn = [
        _card(dataset, int(evidence.clips[each.row]), each, mel, segments, scale, limits, folder)
        for each, mel, segments in zip(wrong, mels, over_time, strict=True)
    ]
    several = any(len(spans) > 1 for spans, _ in over_time)
    return f"""
<p class="muted">Mel spectrograms: low frequencies at the bottom, time in {scale.unit}, the same
scales for all. <span style="white-space:nowrap">{_decibels(limits[0])}<span class="scale"
style="background:{gradient()}"></span>{_decibels(limits[1])}</span></p>
{_keys(*keys) if several else ''}<div class="clips">{''.join(drawn)}</div>"""


def _decibels(value: float) -> str:
    return f'{value:g} dB'.replace('-', '−')


def _keys(wrong: str, true: str) -> str:
    return f"""<p class="muted keys">Below it, the probability over time, from 0 to 1:
<span><i class="key wrong"></i>{wrong}</span><span><i class="key true"></i>{true}</span></p>
"""


def _scale(dataset: Dataset, lengths: Sequence[int]) -> _Scale:
    """One time axis for clips of some lengths in frames."""
    front_end = dataset.front_end
    frame, unit, mark = front_end.hop_length / front_end.sample_rate, 'seconds', ' s'
    longest = LONGEST
    if not dataset.from_audio:
        frame, unit, mark, longest = 1.0, 'frames', '', LONGEST * _FRAMES_PER_SECOND
    return _Scale(frame, unit, mark, min(max(lengths) * frame, longest))


def _card(
    dataset: Dataset,
    clip: int,
    wrong: Wrong,
    mel: Float[np.ndarray, 'frames mels'],
    segments: tuple[Any, Any],
    scale: _Scale,
    limits: tuple[float, float],
    folder: str,
) -> str:
    id = dataset.ids[clip]
    spans, rows = segments
    length = int(spans[-1, 1]) * scale.frame
    width = 100 * min(length / scale.end, 1)
    columns = max(1, round(COLUMNS * width / 100))
    audio = player(dataset, id, wrong.label, folder)
    cut = f'; its first {scale.end:g} of {length:.0f} {scale.unit}' * (length > scale.end * 1.001)
    return f"""
<figure class="clip"><figcaption><p class="id">{name(id)}</p>
<p>{wrong.caption}{cut}</p></figcaption>
<img alt="mel spectrogram of {plain(id)}" style="width:{width:.2f}%"
src="{picture(mel, columns, limits)}">
{_time(scale)}{_over_time(spans, rows, wrong.lines, scale)}{audio}</figure>"""


def _time(scale: _Scale) -> str:
    ticks = round_ticks(0, scale.end, 6)
    parts = []
    for tick in ticks:
        place = 100 * tick / scale.end
        last = ' class="last"' if place > 97 else ''
        parts.append(f'<span{last} style="left:{place:.2f}%">{tick:g}{scale.mark}</span>')
    return f'<div class="time">{"".join(parts)}</div>'


def _over_time(
    spans: Int[np.ndarray, 'segments 2'],
    rows: Float[np.ndarray, 'segments labels'],
    drawn: Sequence[tuple[str, int]],
    scale: _Scale,
) -> str:
    """The probability of some labels in each segment, if there are several segments."""
    if len(spans) < 2:
        return ''
    times = 100 * np.minimum(spans * scale.frame / scale.end, 1)
    lines = []
    for kind, label in drawn:
        heights = 50 - 48 * rows[:, label]
        middles = ' '.join(f'{x:.2f},{y:.1f}' for x, y in zip(times.mean(1), heights, strict=True))
        bars = ''.join(
            f'M{a:.2f} {y:.1f}H{b:.2f}' for (a, b), y in zip(times, heights, strict=True)
        )
        lines.append(f'<polyline class="{kind}" opacity=".5" points="{middles}"/>')
        lines.append(f'<path class="{kind}" stroke-width="3" d="{bars}"/>')
    return (
        '<div class="over"><svg viewBox="0 0 100 52" preserveAspectRatio="none" role="img" '
        'aria-label="probability over time"><path class="grid" d="M0 26H100"/>'
        f'{"".join(lines)}</svg></div>'
    )
