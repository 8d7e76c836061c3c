"""What figures share: colours, labels beside lines, fonts, SVG."""

import io
import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glr_jax import storage

# Okabe and Ito's colours, which colour-blind people can tell apart; not their yellow, too light for
# a line on white, and black.
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#666666')
DASHES = ('-', '--', ':', '-.')  # of further lines, in the same colours
# For labels in scripts that matplotlib's own font lacks, if they are installed.
_FALLBACKS = (
    *('Noto Sans CJK JP', 'Noto Sans CJK SC', 'Noto Sans CJK KR', 'Source Han Sans'),
    *('Hiragino Sans', 'PingFang SC', 'Yu Gothic', 'Microsoft YaHei', 'Malgun Gothic'),
    *('WenQuanYi Zen Hei', 'IPAGothic', 'Noto Sans Arabic', 'Noto Sans Devanagari', 'Arial'),
)


class Label(NamedTuple):
    """A label for a line.

    Attributes:
      text: of the label.
      end: where the line ends, x and y in the units of the axes.
      color: of both.
    """

    text: str
    end: tuple[float, float]
    color: str


def look(number: int) -> dict[str, Any]:
    """Colour and dashes of the line with this number, from 0."""
    return {
        'color': COLORS[number % len(COLORS)],
        'linestyle': DASHES[number // len(COLORS) % len(DASHES)],
    }


def label_ends(axes: Axes, labels: Sequence[Label], size: float = 9) -> None:
    """Writes labels to the right of the ends of lines; those at the same place never overlap.

    Args:
      axes: with their final position and everything else drawn in them.
      labels: of the lines.
      size: of the font, in points.
    """
    figure = axes.get_figure()
    assert figure is not None
    low, high = axes.get_ylim()  # final only once they have been asked for
    axes.set_ylim(low, high)
    points = axes.get_window_extent().height * 72 / figure.dpi
    pixels = axes.transData.transform([label.end for label in labels])
    ends = axes.transAxes.inverted().transform(pixels)
    for place in dict.fromkeys(label.end[0] for label in labels):
        chosen = [k for k, label in enumerate(labels) if label.end[0] == place]
        heights = apart([ends[k, 1] for k in chosen], 1.35 * size / points)
        for k, height in zip(chosen, heights, strict=True):
            axes.annotate(
                labels[k].text,
                ends[k],
                (ends[k, 0] + 0.05, height),
                xycoords='axes fraction',
                textcoords='axes fraction',
                arrowprops={
                    'arrowstyle': '-',
                    'color': labels[k].color,
                    'linewidth': 0.7,
                    'relpos': (0, 0.5),
                },
                annotation_clip=False,
                color=labels[k].color,
                fontsize=size,
                va='center',
                parse_math=False,
            )


def apart(heights: Sequence[float], least: float) -> list[float]:
    """Heights for labels near those of their lines, but at least `least` from each other."""
    order = np.argsort(heights)
    placed = np.asarray(heights, np.float64)[order]
    for _ in range(1000):  # push close neighbours apart, half of the way each
        short = np.maximum(least - np.diff(placed), 0)
        placed[:-1] -= short / 2
        placed[1:] += short / 2
    found = np.empty(len(placed))
    found[order] = placed
    return found.tolist()


def fonts() -> list[str]:
    """Font families for any label: matplotlib's own, then what the system has for other scripts."""
    installed = set(font_manager.get_font_names())
    return ['DejaVu Sans', *(name for name in _FALLBACKS if name in installed)]


def save(figure: Figure, path: str, dpi: int) -> None:
    """Writes a figure in the format that the suffix of the path says.

    Raises:
      OSError: it cannot be written; the error names `path`.
    """
    with storage.to_write(path, durable=False) as partial:
        figure.savefig(partial, dpi=dpi, format=os.path.splitext(path)[1][1:].lower())


def svg(figure: Figure) -> str:
    """A figure as an `<svg>` element whose texts are text."""
    buffer = io.StringIO()
    options: Any = {'svg.fonttype': 'none', 'svg.hashsalt': 'report', 'text.usetex': False}
    with matplotlib.rc_context(options), warnings.catch_warnings():
        # The reader's browser has other fonts.
        warnings.filterwarnings('ignore', message='Glyph .* missing from font')
        figure.savefig(buffer, format='svg', metadata={'Date': None}, transparent=True)
    return buffer.getvalue()[buffer.getvalue().index('<svg') :]
