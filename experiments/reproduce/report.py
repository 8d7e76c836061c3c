"""The paper's Tables 4 to 9 as Markdown, with the paper's values beside the measured ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import paper
from experiments.tables import BASELINES, markdown
from glr_jax.text import counted
from glr_jax.uncertainty import spread

STRONG, WEAK, _ = BASELINES  # in the place of a model's name


def document(results: dict[str, Any], figures: Sequence[tuple[str, str]]) -> str:
    """The whole report.

    Args:
      results: of `experiments.reproduce`.
      figures: (caption, file) of each.
    """
    name = paper.dataset_of(results['labels'])
    protocol = results['protocol']
    claims = name if protocol == 'random' else None  # the paper has no other protocol
    intro = (
        f'{results["clips"]} clips, {len(results["labels"])} labels, '
        f'{counted(results["epochs"], "epoch")}; '
        f'{results["hardware"]}; {sum(results["seconds"].values()) / 60:.0f} minutes of training. '
        'Accuracies are in per cent, on the test clips of each iteration.'
    )
    if claims:
        intro += (
            " The paper's values are in brackets. Its splits are not published, so the comparison "
            'is only approximate.'
        )
    parts = [
        f'# {name or results["dataset"]}, protocol `{protocol}`',
        intro,
        *_warnings(results),
        '## Accuracy (Tables 4, 5 and 6)',
        accuracy(results, claims),
        verdict(results),
        '## Other norms against batch norm, all else equal',
        against_batch(results),
        '## Proposed model and literature (Table 7)',
        literature(results, name) if name else "This is not one of the paper's datasets.",
        '## Precision, recall and F1 by iteration (Tables 8 and 9)',
        precision_recall_f1(results, claims),
        '## Precision, recall and F1 by label, mean over iterations',
        by_label(results),
        '## Figures',
        *(f'**{caption}**\n\n![{caption}]({file})' for caption, file in figures),
    ]
    return '\n\n'.join(parts) + '\n'


def accuracy(results: dict[str, Any], name: str | None) -> str:
    """Accuracy of every model in every iteration; the last columns need no network.

    Args:
      results: of `experiments.reproduce`.
      name: the dataset whose published values are shown in brackets; None: no values.
    """
    models, iterations = _models(results), _iterations(results)
    claimed = paper.ACCURACY.get(name or '', {})
    rows = []
    for iteration in iterations:
        cells = [f'Iteration {iteration}']
        for model in models:
            claims = claimed.get(model, ())
            claim = claims[iteration - 1] if iteration <= len(claims) else None
            cells.append(_cell(_accuracies(results, model)[iteration], claim))
        rows.append(cells)
    mean, single = ['**mean ± std**'], ['single segments']
    for model in models:
        values = list(_accuracies(results, model).values())
        mean.append(f'**{spread(values)}**' + _brackets(_claimed_mean(model, name)))
        segments = [
            run['scores'].get('segment_accuracy') for run in _runs(results) if run['model'] == model
        ]
        single.append('' if None in segments else spread(segments))
    return markdown(['', *map(_title, models)], [*rows, mean, single])


def verdict(results: dict[str, Any]) -> str:
    """Says which networks are better than the SVMs, and which are not."""
    mean = lambda model: np.mean(list(_accuracies(results, model).values()))
    sentences = [
        f'An SVM on the levels of each mel band, which ignores time, reaches {100 * mean(WEAK):.1f}'
        '; one on statistics, which also sees modulation and how bands vary together, reaches '
        f'{100 * mean(STRONG):.1f}.'
    ]
    for model in _networks(results):
        points = {name: 100 * (mean(model) - mean(name)) for name in (STRONG, WEAK)}
        better = 'is better' if points[STRONG] > 0 else 'is **not** better'
        sentences.append(
            f'`{model}` {better} than the {BASELINES[STRONG]} ({points[STRONG]:+.1f} points; '
            f'{points[WEAK]:+.1f} against the {BASELINES[WEAK]}).'
        )
    return ' '.join(sentences)


def against_batch(results: dict[str, Any]) -> str:
    """Each model minus the model that differs from it only in having batch norm."""
    rows = []
    for baseline in (run for run in _first_runs(results) if run['norm'] == 'batch'):
        for run in _first_runs(results):
            if run['kind'] == baseline['kind'] and run is not baseline:
                mine = _accuracies(results, run['model'])
                other = _accuracies(results, baseline['model'])
                differences = [mine[k] - other[k] for k in mine]
                name = f'{run["model"]} − {baseline["model"]}'
                rows.append([name, str(len(differences)), spread(differences, sign='+')])
    if not rows:
        return 'No two of the models differ only in the norm, with batch norm in one of them.'
    return markdown(['difference', 'n', 'points, mean ± std'], rows)


def literature(results: dict[str, Any], name: str) -> str:
    """Table 7."""
    rows = [[who, f'{100 * value:.2f}'] for who, value in paper.LITERATURE[name].items()]
    rows.append(['proposed, in the paper', f'{100 * paper.MEAN_OF_PROPOSED[name]:.2f}'])
    for model in _models(results):
        values = list(_accuracies(results, model).values())
        rows.append([f'{_title(model)}, measured here', spread(values)])
    return markdown(['method', f'{name} accuracy'], rows)


def precision_recall_f1(results: dict[str, Any], name: str | None) -> str:
    """Tables 8 and 9, for the proposed model, or else for the last model."""
    model = _proposed(results)
    claims = paper.PRECISION_RECALL_F1.get(name or '', ())
    rows = []
    for run in _runs(results):
        if run['model'] == model:
            k = run['iteration'] - 1
            claim: Sequence[float | None] = claims[k] if k < len(claims) else (None,) * 3
            values = [run['scores'][key] for key in ('precision', 'recall', 'macro_f1')]
            cells = [_cell(value, c) for value, c in zip(values, claim, strict=True)]
            rows.append([f'Iteration {run["iteration"]}', *cells])
    for name in (model, *BASELINES):
        scores = [run['scores'] for run in _runs(results) if run['model'] == name]
        means = [spread([s[key] for s in scores]) for key in ('precision', 'recall', 'macro_f1')]
        rows.append([f'{_title(name)}, mean ± std', *means])
    return f'`{model}`\n\n' + markdown(['', 'precision', 'recall', 'F1'], rows)


def by_label(results: dict[str, Any]) -> str:
    """Precision, recall and F1 of each label with the proposed model, and the strong SVM's F1."""
    model = _proposed(results)
    mine, svm = (
        [run['scores']['per_class'] for run in _runs(results) if run['model'] == name]
        for name in (model, STRONG)
    )
    rows = [
        [
            label,
            *(spread([s[label][key] for s in mine]) for key in ('precision', 'recall', 'f1')),
            spread([s[label]['f1'] for s in svm]),
        ]
        for label in results['labels']
    ]
    return f'`{model}`\n\n' + markdown(
        ['', 'precision', 'recall', 'F1', f'F1 of the {BASELINES[STRONG]}'], rows
    )


def _warnings(results: dict[str, Any]) -> list[str]:
    if any(run['scores'].get('side') == 'validation' for run in _runs(results)):
        return [
            '**This protocol has no test clips. The scores are on the validation clips, which also '
            'chose the best epoch, so they are optimistic.**'
        ]
    return []


def _runs(results: dict[str, Any]) -> list[dict[str, Any]]:
    return results['runs']


def _first_runs(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One run of each network, in the order of training."""
    runs = {run['model']: run for run in reversed(_runs(results)) if run['model'] not in BASELINES}
    return list(runs.values())[::-1]


def _models(results: dict[str, Any]) -> list[str]:
    """The networks in the order of training, then the baselines."""
    return [*_networks(results), *BASELINES]


def _title(model: str) -> str:
    """A model's name in a table."""
    return BASELINES.get(model, model)


def _networks(results: dict[str, Any]) -> list[str]:
    return list(
        dict.fromkeys(run['model'] for run in _runs(results) if run['model'] not in BASELINES)
    )


def _iterations(results: dict[str, Any]) -> list[int]:
    return sorted({run['iteration'] for run in _runs(results)})


def _accuracies(results: dict[str, Any], model: str) -> dict[int, float]:
    return {
        run['iteration']: run['scores']['accuracy']
        for run in _runs(results)
        if run['model'] == model
    }


def _proposed(results: dict[str, Any]) -> str:
    models = _networks(results)
    return 'proposed' if 'proposed' in models else models[-1]


def _claimed_mean(model: str, name: str | None) -> float | None:
    if model == 'proposed':
        return paper.MEAN_OF_PROPOSED.get(name or '')
    claims = paper.ACCURACY.get(name or '', {}).get(model)
    return float(np.mean([c for c in claims if c is not None])) if claims else None


def _cell(value: float, claim: float | None) -> str:
    return f'{100 * value:.1f}' + _brackets(claim)


def _brackets(claim: float | None) -> str:
    return '' if claim is None else f' ({100 * claim:.1f})'
