"""The report of a run, from top to bottom."""

import html
import os
from typing import Any

import numpy as np

from glr_jax import metrics
from glr_jax.config import Config
from glr_jax.page import (
    calibration,
    charts,
    confusion,
    headline,
    markup,
    origin,
    protocol,
    tag_curves,
    tag_labels,
    wrong_clips,
    wrong_tags,
)
from glr_jax.page.audio_links import link
from glr_jax.page.evidence import Evidence
from glr_jax.page.markup import Cell, percent, plain
from glr_jax.text import counted


def page(
    scores: dict[str, Any],
    sentence: str,
    config: Config,
    epochs: list[dict[str, Any]],
    *,
    floor: dict[str, Any] | None = None,
    evidence: Evidence | None = None,
    folder: str = '',
) -> str:
    """The page, as HTML.

    Args:
      scores: as in `metrics.json`.
      sentence: the main scores in words.
      config: of the run; of a folder of runs, that of the first.
      epochs: rows of its `metrics.jsonl`.
      floor: scores of the classical classifiers, if they are known.
      evidence: the clips that were scored; without them, the page has only what follows from the
        scores.
      folder: where the page will be.
    """
    sections = [
        ('protocol', 'What was tested', protocol.section(scores, config, evidence)),
        ('training', 'Training', _training(scores, config, epochs, folder)),
        *(_tag_results if scores.get('multi_label') else _results)(scores, evidence, folder),
    ]
    sections.append(
        ('again', 'Reproduce', origin.section(scores, config, epochs, evidence, folder))
    )
    title = os.path.basename(os.path.normpath(config.workdir))
    notes = ''.join(f'<p class="warning">{note}</p>' for note in protocol.warnings(scores))
    body = ''.join(
        f'<section id="{id}"><h2>{heading}</h2>\n{content}\n</section>\n'
        for id, heading, content in sections
    )
    return markup.document(
        f'{title}: report',
        f"""<h1>{plain(title)}</h1>
<p class="muted">{_network(scores, config, epochs)};
data: <code>{plain(scores['dataset'])}</code></p>
{notes}<section id="scores">{headline.section(scores, sentence, floor or {})}</section>
{body}""",
    )


def _results(
    scores: dict[str, Any], evidence: Evidence | None, folder: str
) -> list[tuple[str, str, str]]:
    """The sections in which each clip has one label."""
    sections = [
        ('confusion', 'Confusion', confusion.section(scores)),
        ('labels', 'Labels', confusion.label_table(scores)),
    ]
    if evidence is not None:
        sure = evidence.probabilities.max(1)
        right = evidence.decisions == evidence.targets
        sections += [
            ('calibration', 'Calibration', calibration.section(sure, np.asarray(right))),
            ('wrong', 'Wrong clips', wrong_clips.section(evidence, folder)),
        ]
    return sections


def _tag_results(
    scores: dict[str, Any], evidence: Evidence | None, folder: str
) -> list[tuple[str, str, str]]:
    """The sections in which clips may have several labels."""
    sections = [('labels', 'Labels', tag_labels.label_table(scores))]
    if evidence is not None:
        thresholds = [row['threshold'] for row in scores['per_class'].values()]
        calibrated = calibration.labels_section(evidence.probabilities, evidence.has_label)
        together = tag_labels.wrong_together(evidence, thresholds)
        sections += [
            ('curves', 'Curves', tag_curves.section(scores, evidence)),
            ('together', 'Labels decided wrongly', together),
            ('calibration', 'Calibration', calibrated),
            ('wrong', 'Wrong clips', wrong_tags.section(evidence, thresholds, folder)),
        ]
    return sections


def _network(scores: dict[str, Any], config: Config, epochs: list[dict[str, Any]]) -> str:
    """The network and its training in one sentence, or the runs that are averaged."""
    if 'runs' in scores:
        main = metrics.main_score(scores)
        names = (plain(f'{run["workdir"]} ({metrics.shown(run[main])})') for run in scores['runs'])
        return f'mean of the probabilities of {len(scores["runs"])} runs: {", ".join(names)}'
    model, train = config.model, config.train
    front = f'{model.conv} convolution' if model.front == 'conv' else f'front end {model.front}'
    # Patience, a time limit or a minimum of steps may have changed the number.
    count = epochs[-1]['epoch'] if epochs else train.epochs
    return f"""{html.escape(model.kind)} with {html.escape(model.norm)}, {front},
{model.cell} cell; {counted(count, 'epoch')} at batch {train.batch_size}; best checkpoint: step
{scores['step']}"""


def _training(
    scores: dict[str, Any], config: Config, epochs: list[dict[str, Any]], folder: str
) -> str:
    """The learning curves; of several runs, their scores with links to their pages."""
    if 'runs' not in scores:
        return charts.curves(epochs, scores['step']) if epochs else '<p>no epochs logged</p>'
    steps = scores['step'] if isinstance(scores['step'], list) else [scores['step']]
    main, rows = metrics.main_score(scores), []
    for run, step in zip(scores['runs'], steps, strict=False):
        path = os.path.join(config.workdir, run['workdir'], 'report', 'index.html')
        shown = markup.name(run['workdir'])
        if os.path.exists(path):
            shown = f'<a href="{link(path, folder)}">{shown}</a>'
        value = run[main]
        number = metrics.shown(value) if main != 'accuracy' else percent(value)
        cells = Cell(number, -1.0 if value is None else value), Cell(f'{step:,}', step)
        rows.append([Cell(shown), *cells])
    name = f'{metrics.NAMES[main]} on these clips'
    return markup.table(['run', name, 'step of its best checkpoint'], rows)
