"""Pages of spectrograms: some clips of each label, all on one scale of seconds and of decibels."""

import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from glr_jax import figures
from glr_jax.cli import status
from glr_jax.data.dataset import Dataset
from glr_jax.data.mel import decode
from glr_jax.text import counted, printable

PICTURES = 4  # per label
LABELS_PER_PAGE = 20
MOST_LABELS = 1000  # on all pages
LONGEST = 3.0  # medians that the time axis shows; what is beyond is cut
LABEL_LINES = 3
# Inches.
LABEL_WIDTH, PICTURE_WIDTH, PICTURE_HEIGHT, GAP = 1.7, 2.2, 0.8, 0.18
TITLE_HEIGHT, TOP, BOTTOM, RIGHT = 0.2, 0.42, 0.5, 0.85
POINTS = 72  # per inch
ROW = TITLE_HEIGHT + PICTURE_HEIGHT
HINTING = 1.05  # letters may be that much wider on a grid of pixels
LABEL_SIZE, TITLE_SIZE, SMALL = 9, 7, 7  # points
FAINT = '#666666'


class Scale(NamedTuple):
    """What all pictures share.

    Attributes:
      unit: of the time axis: seconds, or frames if the clips did not come from audio.
      per_frame: units per frame.
      end: of the time axis.
      low: decibels of the darkest colour.
      high: decibels of the brightest colour.
    """

    unit: str
    per_frame: float
    end: float
    low: float
    high: float


def draw(dataset: Dataset, lengths: Int[np.ndarray, ' clips'], path: str) -> list[str]:
    """Draws spectrograms of some clips of each label, low frequencies at the bottom.

    Args:
      dataset: an open dataset.
      lengths: frames of each clip.
      path: of the image. Several pages are NAME-1.png, NAME-2.png and so on.

    Returns:
      The files written.
    """
    labels = range(min(len(dataset.labels), MOST_LABELS))
    chosen = [choose(dataset, label) for label in labels]
    if len(dataset.labels) > len(labels):
        status(f'only the first {len(labels):,} of {len(dataset.labels):,} labels are drawn')
    scale = scale_of(dataset, lengths, [clip for clips in chosen for clip in clips])
    pages = [labels[k : k + LABELS_PER_PAGE] for k in range(0, len(labels), LABELS_PER_PAGE)]
    columns = max(1, max(map(len, chosen)))
    stem, suffix = os.path.splitext(path)
    paths = [f'{stem}-{k}{suffix}' for k in range(1, len(pages) + 1)] if len(pages) > 1 else [path]
    settings: Any = {'font.family': figures.fonts(), 'text.usetex': False, 'text.parse_math': False}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph .* missing from font')
        for page, file in zip(pages, paths, strict=True):
            rows = {label: chosen[label] for label in page}
            figures.save(_page(dataset, rows, columns, scale), file, dpi=120)
    return paths


def choose(dataset: Dataset, label: int) -> list[int]:
    """Clips of a label, evenly spaced, each once."""
    clips = np.flatnonzero(dataset.having(label))
    places = np.linspace(0, len(clips) - 1, min(PICTURES, len(clips))).astype(int)
    return clips[places].tolist()


def scale_of(dataset: Dataset, lengths: Int[np.ndarray, ' clips'], clips: Sequence[int]) -> Scale:
    """The scale that suits some clips: up to the longest, unless it is far longer than most."""
    front_end, drawn = dataset.front_end, lengths[list(clips)]
    unit, per_frame = 'frames', 1.0
    if dataset.from_audio:
        unit, per_frame = 'seconds', front_end.hop_length / front_end.sample_rate
    longest = min(drawn.max(initial=1), LONGEST * np.median(drawn) if len(drawn) else 1)
    low, high = -front_end.top_db, 0.0
    if front_end.mel_dtype == 'float32':
        mels = [dataset.mel(clip) for clip in clips]
        low = min((float(mel.min()) for mel in mels), default=low)
        high = max((float(mel.max()) for mel in mels), default=high)
    return Scale(unit, per_frame, float(longest * per_frame), low, high)


def _page(dataset: Dataset, chosen: dict[int, list[int]], columns: int, scale: Scale) -> Figure:
    """A page with a row per label."""
    width = LABEL_WIDTH + columns * (PICTURE_WIDTH + GAP) + RIGHT
    height = TOP + len(chosen) * ROW + BOTTOM
    figure = Figure(figsize=(width, height))
    first, last = min(chosen) + 1, max(chosen) + 1
    shown = f'label {first}' if first == last else f'labels {first} to {last}'
    title = f'{shown} of {len(dataset.labels)}, low frequencies at the bottom: '
    space = (width - 0.2) * POINTS - width_of(title, LABEL_SIZE)
    title += fitted(printable(dataset.folder), space, LABEL_SIZE)
    figure.text(0.1 / width, 1 - 0.12 / height, title, size=LABEL_SIZE, va='top')
    for row, label in enumerate(chosen):
        lines = _label_lines(printable(dataset.labels[label]))
        count = counted(int(dataset.having(label).sum()), 'clip')
        x, y = 0.1 / width, (BOTTOM + _bottom(row, len(chosen)) + PICTURE_HEIGHT / 2) / height
        figure.text(x, y, '\n'.join(lines), size=LABEL_SIZE, va='bottom', linespacing=1.15)
        figure.text(x, y - 0.04 / height, count, size=SMALL, va='top', color=FAINT)
    for column in range(columns):
        left = LABEL_WIDTH + column * (PICTURE_WIDTH + GAP)
        box = (left, BOTTOM, PICTURE_WIDTH, len(chosen) * ROW)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        for row, (label, clips) in enumerate(chosen.items()):
            if column < len(clips):
                bottom = _bottom(row, len(chosen))
                _picture(axes, bottom, dataset, clips[column], scale, dataset.labels[label])
        axes.set_xlim(0, scale.end)
        axes.set_ylim(0, len(chosen) * ROW)
        axes.locator_params(axis='x', nbins=5)
        axes.tick_params(labelsize=SMALL, length=2, pad=2)
        axes.set_xlabel(scale.unit, size=SMALL, labelpad=1)
        axes.grid(axis='x', color='#e4e4e4', linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_yticks([])
        axes.spines[['top', 'left', 'right']].set_visible(False)
    _colour_bar(figure, scale, width, height)
    return figure


def _bottom(row: int, rows: int) -> float:
    """Where the pictures of a row begin, in inches above the time axis."""
    return (rows - 1 - row) * ROW


def _label_lines(text: str) -> list[str]:
    """A label in lines that fit beside the pictures."""
    width, rest = (LABEL_WIDTH - 0.2) * POINTS, text
    lines: list[str] = []
    while rest and len(lines) < LABEL_LINES - 1:
        line = _beginning(rest, width, LABEL_SIZE)
        if len(line) < len(rest) and ' ' in line.strip():
            line = line[: line.rindex(' ') + 1]
        lines.append(line.strip())
        rest = rest[len(line) :].lstrip()
    return [*lines, fitted(rest, width, LABEL_SIZE)] if rest else lines


def _picture(
    axes: Axes, bottom: float, dataset: Dataset, clip: int, scale: Scale, label: str
) -> None:
    """The spectrogram of a clip, with its name above it."""
    decibels = decode(dataset.mel(clip), dataset.front_end)
    length, top = len(decibels) * scale.per_frame, bottom + PICTURE_HEIGHT
    axes.imshow(
        decibels.T,
        origin='lower',
        aspect='auto',
        cmap='magma',
        extent=(0, length, bottom, top),
        vmin=scale.low,
        vmax=scale.high,
        zorder=1,  # over the grid
    )
    space, over = PICTURE_WIDTH * POINTS, length > 1.001 * scale.end
    if over:
        text = f'of {length:.0f} {scale.unit}'
        space -= width_of(text, TITLE_SIZE) + TITLE_SIZE
        axes.text(scale.end, top + 0.03, text, size=TITLE_SIZE, color=FAINT, ha='right')
    name = printable(dataset.ids[clip].removeprefix(f'{label}/'))
    axes.text(0, top + 0.03, fitted(name, space, TITLE_SIZE), size=TITLE_SIZE)


def _colour_bar(figure: Figure, scale: Scale, width: float, height: float) -> None:
    """One colour bar for the page, at its top right."""
    tall = min(1.6, height - TOP - BOTTOM - TITLE_HEIGHT)
    left = width - RIGHT + 0.05
    bottom = height - TOP - TITLE_HEIGHT - tall
    axes = figure.add_axes((left / width, bottom / height, 0.1 / width, tall / height))
    mappable = matplotlib.cm.ScalarMappable(
        matplotlib.colors.Normalize(scale.low, scale.high), 'magma'
    )
    figure.colorbar(mappable, cax=axes)
    axes.tick_params(labelsize=SMALL, length=2, pad=2)
    axes.set_title('dB', size=SMALL, pad=3, loc='left')


def width_of(text: str, size: float) -> float:
    """The width of a text in points."""
    font = FontProperties(size=size)
    return HINTING * float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def fitted(text: str, width: float, size: float) -> str:
    """The text, or its beginning and its end around an ellipsis if it is too wide.

    Args:
      text: of one line.
      width: in points.
      size: of the font, in points.
    """
    if width_of(text, size) <= width:
        return text
    short = lambda kept: text[: (kept + 1) // 2] + '…' + text[len(text) - kept // 2 :]
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width_of(short(middle), size) <= width else (low, middle - 1)
    return short(low)


def _beginning(text: str, width: float, size: float) -> str:
    """As much of the beginning of a text as fits, at least one character."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width_of(text[:middle], size) <= width else (low, middle - 1)
    return text[:low]
