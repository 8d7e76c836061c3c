"""What a network says about one clip over time: the spectrogram, and below it the labels."""

import html

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
      top: labels to show.
    """
    limits = decibel_range([decibels], front_end)
    image = picture(decibels, COLUMNS, limits)
    rows = [
        f'<div></div><img src="{image}" alt="Spectrogram of {seconds:.1f} seconds, '
        f'low frequencies at the bottom">'
    ]
    widths = _widths(prediction.times, seconds)
    for label, _ in prediction.top(top):
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
    return (
        f'<div class="course"><h3>Spectrogram and probabilities over time</h3>{"".join(rows)}</div>'
    )


def _widths(
    times: Float[np.ndarray, 'segments 2'], seconds: float
) -> Float[np.ndarray, ' segments']:
    """How much of the clip each segment stands for, in per cent: where its centre is nearest."""
    centres = times.mean(1)
    edges = np.concatenate([[0.0], (centres[1:] + centres[:-1]) / 2, [seconds]])
    return 100 * np.diff(edges) / seconds
