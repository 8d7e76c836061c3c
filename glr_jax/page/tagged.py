"""What a network says about one clip over time: the spectrogram, and below it the labels."""

import html
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from glr_jax.data.front_end import FrontEnd
from glr_jax.page.charts import round_ticks
from glr_jax.page.pictures import COLUMNS, decibel_range, gradient, picture
from glr_jax.tagger import Prediction
from glr_jax.text import printable

STYLE = """
.course { display: grid; grid-template-columns: minmax(4.5rem, auto) minmax(0, 1fr);
  gap: .3rem .7rem; align-items: center; font-size: .9rem; padding: .2rem .4rem .4rem; }
.course h3 { grid-column: 1 / -1; margin: .2rem 0; font-size: 1rem; }
.course .name { max-width: 9rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.course img { display: block; width: 100%; height: 9rem; image-rendering: auto; }
.course .strip { display: flex; height: 1.3rem; background: rgba(128, 128, 128, .15); }
.course .strip span { background: #0072b2; }
.course .decided { font-weight: 600; }
.course .bar { position: relative; height: 1.3rem; background: rgba(128, 128, 128, .15); }
.course .bar i { position: absolute; inset: 0 auto 0 0; background: #0072b2; opacity: .45; }
.course .bar.decided i { opacity: 1; }
.course .bar b { position: absolute; top: -.15rem; bottom: -.15rem; width: 2px; margin-left: -1px;
  background: currentColor; }
.course .bar span { position: absolute; right: .4rem; line-height: 1.3rem; font-size: .8rem; }
.course .axis { position: relative; height: 1.2rem; grid-column: 2; font-size: .8rem; }
.course .axis span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.course .axis span:first-child { transform: none; }
.course .key { grid-column: 1 / -1; font-size: .8rem; opacity: .8; }
.course .key span { display: inline-block; white-space: nowrap; margin-right: 1rem; }
.course .key i { display: inline-block; width: 4rem; height: .7rem; vertical-align: middle;
  margin: 0 .3rem; }
@media (max-width: 34rem) { .course { grid-template-columns: 4.5rem minmax(0, 1fr); }
  .course img { height: 7rem; } }
[data-testid=status-tracker] .error { display: none; } /* the message says it */
"""


def course(
    prediction: Prediction,
    decibels: Float[np.ndarray, 'frames mels'],
    front_end: FrontEnd,
    seconds: float,
    top: int,
) -> str:
    """The course of a clip as HTML; it needs `STYLE`.

    Args:
      prediction: of the clip.
      decibels: its spectrogram.
      front_end: that made it.
      seconds: length of the clip.
      top: labels to show; if clips may have several labels, all decided ones as well.
    """
    limits = decibel_range([decibels], front_end)
    image = picture(decibels, COLUMNS, limits)
    rows = [
        f'<div></div><img src="{image}" alt="Spectrogram of {seconds:.1f} seconds, '
        f'low frequencies at the bottom">'
    ]
    widths = _widths(prediction.times, seconds)
    shown = _shown(prediction, top)
    for label in shown:
        name = html.escape(printable(label), quote=True)
        values = prediction.segments[:, prediction.labels.index(label)]
        cells = ''.join(
            f'<span style="width:{width:.3f}%;opacity:{value:.3f}" title="{name} {value:.0%}">'
            '</span>'
            for width, value in zip(widths, values, strict=True)
        )
        rows.append(
            f'<div class="name" title="{name}">{name}</div><div class="strip">{cells}</div>'
        )
    ticks = [t for t in round_ticks(0, seconds, 5) if t < 0.97 * seconds]
    marks = ''.join(f'<span style="left:{100 * t / seconds:.2f}%">{t:g} s</span>' for t in ticks)
    rows.append(f'<div class="axis">{marks}</div>')
    low, high = limits
    rows.append(
        f'<div class="key"><span>level {low:.0f} dB<i style="background:{gradient()}"></i>'
        f'{high:.0f} dB</span> <span>probability 0 %<i style="background:linear-gradient(90deg,'
        'transparent,#0072b2)"></i>100 %</span></div>'
    )
    bars = _bars(prediction, shown) if prediction.thresholds else ''
    heading = '<h3>Spectrogram and probabilities over time</h3>'
    return f'<div class="course">{bars}{heading}{"".join(rows)}</div>'


def _shown(prediction: Prediction, top: int) -> list[str]:
    """The labels to show: of several, the decided ones first."""
    first = prediction.decided if prediction.thresholds else ()
    others = [label for label, _ in prediction.top(len(prediction.labels)) if label not in first]
    return [*first, *others[: max(0, top - len(first))]]


def _bars(prediction: Prediction, shown: Sequence[str]) -> str:
    """A bar per label with a line at its threshold; the decided labels are marked."""
    decided, parts = prediction.decided, ['<h3>Labels</h3>']
    for label in shown:
        number = prediction.labels.index(label)
        value, threshold = float(prediction.clip[number]), prediction.thresholds[number]
        name, mark = html.escape(printable(label), quote=True), ''
        kind = 'decided' if label in decided else ''
        if kind:
            mark = '<span aria-label="decided">✓ </span>'
        parts.append(
            f'<div class="name {kind}" title="{name}">{mark}{name}</div>'
            f'<div class="bar {kind}"><i style="width:{100 * value:.2f}%"></i>'
            f'<b style="left:{100 * threshold:.2f}%"></b>'
            f'<span>{value:.0%}, threshold {threshold:.0%}</span></div>'
        )
    key = '✓ decided: the bar reaches the line at its threshold'
    count = f'{len(decided)} of {len(prediction.labels)} labels decided'
    return f'{"".join(parts)}<div class="key"><span>{count}</span><span>{key}</span></div>'


def _widths(
    times: Float[np.ndarray, 'segments 2'], seconds: float
) -> Float[np.ndarray, ' segments']:
    """How much of the clip each segment stands for, in per cent: where its centre is nearest."""
    centres = times.mean(1)
    edges = np.concatenate([[0.0], (centres[1:] + centres[:-1]) / 2, [seconds]])
    return 100 * np.diff(edges) / seconds
