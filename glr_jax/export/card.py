"""The model card: a README for people, with the header that the Hugging Face Hub reads."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from glr_jax import report
from glr_jax.data.records import SIDES
from glr_jax.run import training_data
from glr_jax.run.checkpoint import Best

_PROTOCOLS = {
    'random': 'Clips were assigned to the sides at random, so an artist may be on two sides.',
    'group': 'All clips of a group, such as an artist, are on one side.',
    'official': 'The sides are those that the dataset was published with.',
    'fault_filtered': 'The sides are the artist-filtered ones of Kereliuk et al. (2015).',
}


def make(runs: Sequence[Best], workdir: str, files: dict[str, Any], licence: str) -> str:
    """The text of the card.

    Args:
      runs: what was exported.
      workdir: of the run, or of the folder of runs.
      files: {file name: what is known of it}.
      licence: of the data; may be empty.
    """
    scores = report.read(workdir)
    dataset = os.path.basename(os.path.realpath(runs[0].meta.config.data.dir)) or 'its dataset'
    parts = [_header(scores, dataset, licence), _summary(runs, dataset)]
    parts += [_data(runs, dataset, licence), _scores(workdir, scores, len(runs))]
    parts += [_limits(runs), _use(runs, files)]
    return '\n\n'.join(parts) + '\n'


def _header(scores: dict[str, Any], dataset: str, licence: str) -> str:
    lines = ['---', 'library_name: glr-jax', 'pipeline_tag: audio-classification']
    lines += ['tags:', '- audio-classification', '- music', '- genre-classification', '- jax']
    if licence:
        lines.append(f'license: {json.dumps(licence)}')
    if scores:
        lines += ['model-index:', '- name: glr-jax', '  results:']
        lines += ['  - task:', '      type: audio-classification', '    dataset:']
        lines += [f'      name: {json.dumps(dataset)}', '      type: audiofolder']
        lines += [f'      split: {json.dumps(scores["side"])}', '    metrics:']
        for kind, value in (('accuracy', scores['accuracy']), ('f1', scores['macro_f1'])):
            lines += [f'    - type: {kind}', f'      value: {value:.4f}']
    return '\n'.join([*lines, '---'])


def _summary(runs: Sequence[Best], dataset: str) -> str:
    meta = runs[0].meta
    labels = ', '.join(map(_escape, meta.labels))
    many = f'The mean of {len(runs)} networks' if len(runs) > 1 else 'A network'
    return (
        f'# Music tagger: {_escape(dataset)}\n\n{many} that gives each of {len(meta.labels)} '
        f'labels a probability for a clip of music: {labels}. Exactly one label is '
        'assumed to apply.'
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


def _scores(workdir: str, scores: dict[str, Any], runs: int) -> str:
    if not scores:
        return '## Scores\n\nNot scored yet: `python -m glr_jax.evaluate` does it.'
    low, high = scores['accuracy_interval']
    rows = [f'| accuracy | {scores["accuracy"]:.3f} (95 % interval {low:.3f} to {high:.3f}) |']
    rows.append(f'| macro F1 | {scores["macro_f1"]:.3f} |')
    floor = report.read_floor(workdir, scores)
    if floor:
        svm, majority = (floor[name]['accuracy'] for name in ('svm_statistics', 'majority'))
        rows.append(f'| accuracy of an SVM on statistics of whole clips | {svm:.3f} |')
        rows.append(f'| accuracy of always the most frequent label | {majority:.3f} |')
    which = f'{scores["num_clips"]:,} {scores["side"]} clips of the split `{scores["split"]}`'
    leaked = ''
    if scores.get('trained_on'):
        leaked = f' {scores["trained_on"]} of them were trained on: the scores are optimistic.'
    head = f'## Scores\n\nOn {which}.{leaked}\n\n| | |\n|---|---|\n'
    return head + '\n'.join(rows)


def _limits(runs: Sequence[Best]) -> str:
    config = runs[0].meta.config
    return (
        '## Limits\n\nMusic unlike the training data gets a label too, often with a high '
        'probability. The interval covers the choice of test clips, not other collections: expect '
        'lower scores on music from elsewhere. Labels of genres are opinions. '
        f'A clip is cut into segments of {config.data.frames} frames, and their probabilities are '
        'averaged.'
    )


def _use(runs: Sequence[Best], files: dict[str, Any]) -> str:
    lines = ['## Use']
    if 'model.safetensors' in files:
        lines.append(
            "```python\nimport glr_jax\n\ntagger = glr_jax.load('this/folder')  "
            "# or 'hf:USER/NAME'\nprint(tagger('song.mp3').top(3))\n```"
        )
    lines.append('Labels, front end and inputs are in `model.json`.')
    rows = ['| file | takes |', '|---|---|']
    for name, about in files.items():
        rows.append(f'| `{name}` | {about.get("takes", "weights, for glr_jax")} |')
    lines.append('\n'.join(rows))
    return '\n\n'.join(lines)


def _escape(text: str) -> str:
    """Text in which Markdown sees no markup."""
    return ''.join(f'\\{c}' if c in '\\`*_{}[]<>#|' else c for c in text).replace('\n', ' ')
