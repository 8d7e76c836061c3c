"""The model card: a README for people, with the header that the Hugging Face Hub reads."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from glr_jax import metrics, report
from glr_jax.data.records import SIDES
from glr_jax.run import training_data
from glr_jax.run.checkpoint import Best

_PROTOCOLS = {
    'random': 'Clips were assigned to the sides at random, so an artist may be on two sides.',
    'group': 'All clips of a group, such as an artist, are on one side.',
    'official': 'The sides are those that the dataset was published with.',
    'fault_filtered': 'The sides are the artist-filtered ones of Kereliuk et al. (2015).',
}
_FLOOR = {
    'svm_statistics': 'an SVM on statistics of whole clips',
    'majority': 'always the most frequent label',
}
_TAG_FLOOR = {'linear_statistics': 'a linear classifier on statistics of whole clips'}
_TAG_SCORES = {
    'macro_roc_auc': 'macro ROC-AUC',
    'macro_average_precision': 'macro average precision',
    'micro_roc_auc': 'micro ROC-AUC',
    'micro_average_precision': 'micro average precision',
    'macro_f1': 'macro F1 at the thresholds',
    'macro_f1_at_half': 'macro F1 at 0.5',
}


def make(
    runs: Sequence[Best],
    workdir: str,
    files: dict[str, Any],
    licence: str,
    limits: Sequence[float] = (),
) -> str:
    """The text of the card.

    Args:
      runs: what was exported.
      workdir: of the run, or of the folder of runs.
      files: {file name: what is known of it}.
      licence: of the data; may be empty.
      limits: the threshold of each label, if clips may have several labels.
    """
    scores = report.read(workdir)
    dataset = os.path.basename(os.path.realpath(runs[0].meta.config.data.dir)) or 'its dataset'
    several = runs[0].meta.multi_label
    parts = [_header(scores, dataset, licence, several), _summary(runs, dataset)]
    parts += [_data(runs, dataset, licence), _scores(workdir, scores)]
    parts += [_labels(runs, limits, scores)] if several else []
    parts += [_limits(runs), _use(runs, files)]
    return '\n\n'.join(parts) + '\n'


def _header(scores: dict[str, Any], dataset: str, licence: str, several: bool) -> str:
    task = 'music-tagging' if several else 'genre-classification'
    lines = ['---', 'library_name: glr-jax', 'pipeline_tag: audio-classification']
    lines += ['tags:', '- audio-classification', '- music', f'- {task}', '- jax']
    if licence:
        lines.append(f'license: {json.dumps(licence)}')
    if scores:
        lines += ['model-index:', '- name: glr-jax', '  results:']
        lines += ['  - task:', '      type: audio-classification', '    dataset:']
        lines += [f'      name: {json.dumps(dataset)}', '      type: audiofolder']
        lines += [f'      split: {json.dumps(scores["side"])}', '    metrics:']
        kinds = {'accuracy': 'accuracy', 'f1': 'macro_f1'}
        if several:
            kinds = {'roc_auc': 'macro_roc_auc', 'average_precision': 'macro_average_precision'}
            kinds['f1'] = 'macro_f1'
        for kind, name in kinds.items():
            if scores[name] is not None:
                lines += [f'    - type: {kind}', f'      value: {scores[name]:.4f}']
    return '\n'.join([*lines, '---'])


def _summary(runs: Sequence[Best], dataset: str) -> str:
    meta = runs[0].meta
    labels = ', '.join(map(_escape, meta.labels))
    many = f'The mean of {len(runs)} networks' if len(runs) > 1 else 'A network'
    applies = 'Exactly one label is assumed to apply.'
    if meta.multi_label:
        applies = 'Any number of labels may apply, or none: each is decided by itself.'
    return (
        f'# Music tagger: {_escape(dataset)}\n\n{many} that gives each of {len(meta.labels)} '
        f'labels a probability for a clip of music: {labels}. {applies}'
    )


def _data(runs: Sequence[Best], dataset: str, licence: str) -> str:
    meta, config = runs[0].meta, runs[0].meta.config
    record = training_data.read(runs[0].workdir)
    sides = Counter(row[2] for row in record.clips.rows) if record else Counter()
    trained = f' on {sides["train"]:,} clips' if record else ''
    others = ', '.join(f'{sides[side]:,} {side}' for side in SIDES[1:] if sides[side])
    others = f' The other clips: {others}.' if others else ''
    front_end = meta.front_end
    lines = [
        f'## Data\n\nTrained{trained} with the split `{config.data.split}` of {dataset}.{others}'
    ]
    lines.append(_PROTOCOLS.get(config.data.split.rpartition('-')[0] or config.data.split, ''))
    lines.append(
        f'Licence of the data: {_escape(licence)}.'
        if licence
        else 'The licence of the data was not stated; find out before you share the weights.'
    )
    if meta.from_audio:
        lines.append(
            f'\n\nAudio is mixed to mono and resampled to {front_end.sample_rate} Hz. Spectrograms '
            f'have {meta.n_mels} mel bands, windows of {front_end.n_fft} samples and a hop of '
            f'{front_end.hop_length}.'
        )
    return ' '.join(filter(None, lines)).replace(' \n', '\n')


def _scores(workdir: str, scores: dict[str, Any]) -> str:
    if not scores:
        return '## Scores\n\nNot scored yet: `python -m glr_jax.evaluate` does it.'
    main = metrics.main_score(scores)
    if main == 'accuracy':
        low, high = scores['accuracy_interval']
        rows = [f'| accuracy | {scores["accuracy"]:.3f} (95 % interval {low:.3f} to {high:.3f}) |']
        rows.append(f'| macro F1 | {scores["macro_f1"]:.3f} |')
    else:
        rows = [f'| {name} | {metrics.shown(scores[key])} |' for key, name in _TAG_SCORES.items()]
        if scores.get('macro_roc_auc_interval'):
            low, high = scores['macro_roc_auc_interval']
            rows[0] = rows[0].removesuffix('|') + f'(95 % interval {low:.3f} to {high:.3f}) |'
    floor = report.read_floor(workdir, scores)
    for name, words in (_FLOOR if main == 'accuracy' else _TAG_FLOOR).items():
        if main in floor.get(name, {}):
            value = metrics.shown(floor[name][main])
            rows.append(f'| {metrics.NAMES[main]} of {words} | {value} |')
    which = f'{scores["num_clips"]:,} {scores["side"]} clips of the split `{scores["split"]}`'
    leaked = ''
    if scores.get('trained_on'):
        leaked = f' {scores["trained_on"]} of them were trained on: the scores are optimistic.'
    head = f'## Scores\n\nOn {which}.{leaked}\n\n| | |\n|---|---|\n'
    return head + '\n'.join(rows)


def _labels(runs: Sequence[Best], limits: Sequence[float], scores: dict[str, Any]) -> str:
    """The threshold of each label, with its scores if they are known."""
    chosen = 'which was chosen on the validation clips'
    if not any(run.meta.thresholds for run in runs):
        chosen = '0.5, since none was chosen yet'
    head = (
        '## Labels\n\nA label is decided if its probability is at least its threshold, '
        f'{chosen}.\n\n| label | threshold |'
    )
    labels, found = runs[0].meta.labels, scores.get('per_class', {})
    rows = [
        f'| {_escape(label)} | {limit:.3f} |' for label, limit in zip(labels, limits, strict=True)
    ]
    if list(found) != list(labels):
        return '\n'.join([head, '|---|---|', *rows])
    head += ' ROC-AUC | average precision | F1 | clips |'
    for k, row in enumerate(found.values()):
        areas = (metrics.shown(row[name]) for name in ('roc_auc', 'average_precision', 'f1'))
        rows[k] += f' {" | ".join(areas)} | {row["support"]:,} |'
    return '\n'.join([head, '|---|---|---|---|---|---|', *rows])


def _limits(runs: Sequence[Best]) -> str:
    config = runs[0].meta.config
    unlike = 'gets a label too, often with a high probability.'
    covers = 'The interval covers the choice of test clips, not other collections:'
    if runs[0].meta.multi_label:
        unlike = 'gets labels too, often with high probabilities.'
    return (
        f'## Limits\n\nMusic unlike the training data {unlike} {covers} '
        'expect lower scores on music from elsewhere. Labels of genres are opinions. '
        f'A clip is cut into segments of {config.data.frames} frames, and their probabilities are '
        'averaged.'
    )


def _use(runs: Sequence[Best], files: dict[str, Any]) -> str:
    several = runs[0].meta.multi_label
    shown = 'decided' if several else 'top(3)'
    lines = ['## Use']
    if 'model.safetensors' in files:
        lines.append(
            "```python\nimport glr_jax\n\ntagger = glr_jax.load('this/folder')  "
            f"# or 'hf:USER/NAME'\nprint(tagger('song.mp3').{shown})\n```"
        )
    about_labels = 'Labels, thresholds,' if several else 'Labels,'
    lines.append(f'{about_labels} front end and inputs are in `model.json`.')
    rows = ['| file | takes |', '|---|---|']
    for name, about in files.items():
        rows.append(f'| `{name}` | {about.get("takes", "weights, for glr_jax")} |')
    lines.append('\n'.join(rows))
    return '\n\n'.join(lines)


def _escape(text: str) -> str:
    """Text in which Markdown sees no markup."""
    return ''.join(f'\\{c}' if c in '\\`*_{}[]<>#|' else c for c in text).replace('\n', ' ')
