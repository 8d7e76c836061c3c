"""The report of a run: a table, a page with figures, and files.

The files are `metrics.json`, `predictions.csv` and `baselines.json`, the scores of classical
classifiers on the same clips.
"""

import csv
import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from glr_jax import json_files, metrics, storage, tag_metrics, tag_text
from glr_jax.cli import status
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.data.metadata import SEPARATOR
from glr_jax.data.tables import probability_columns
from glr_jax.errors import UserError
from glr_jax.page.evidence import Evidence
from glr_jax.run.workdir import read_log
from glr_jax.storage import same_folder
from glr_jax.text import cell, columns, counted

_REMEDY = 'remove it, and it is written again'
COLUMNS = ('id', 'label', 'labels', 'decision')  # of predictions.csv, before the labels
LONGEST = 60  # columns of a label in the table
WIDEST = 100  # columns of a line of a sentence


def table(scores: dict[str, Any]) -> str:
    """The scores as text, one line per label."""
    if scores.get('multi_label'):
        return '\n'.join([tag_text.table(scores), '', wrapped(headline(scores))])
    width = max(12, *(columns(cell(label, 0, LONGEST)) for label in scores['labels']))
    lines = [f'{"":{width}}  precision  recall      f1  clips']
    for label, row in scores['per_class'].items():
        numbers = f'{row["precision"]:9.3f}  {row["recall"]:6.3f}  {row["f1"]:6.3f}'
        if not row['support']:  # not in the mean either
            numbers = f'{"-":>9}  {"-":>6}  {"-":>6}'
        lines.append(f'{cell(label, width)}  {numbers}  {row["support"]:5}')
    lines.append(
        f'{"mean":{width}}  {scores["precision"]:9.3f}  {scores["recall"]:6.3f}  '
        f'{scores["macro_f1"]:6.3f}  {scores["num_clips"]:5}'
    )
    return '\n'.join([*lines, '', wrapped(headline(scores))])


def wrapped(sentence: str) -> str:
    """A sentence in lines as wide as the terminal, but at most 100 columns, as in a log."""
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    first, *words = sentence.split(' ')
    lines = [first]
    for word in words:
        longer = f'{lines[-1]} {word}'
        if columns(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return '\n'.join(lines)


def headline(scores: dict[str, Any]) -> str:
    """The main scores in one sentence."""
    changed = scores.get('changed_data', [])
    clips = f'{counted(scores["num_clips"], scores["side"] + " clip")} of {scores["split"]}'
    if scores['split'] == 'all':
        clips = f'all {counted(scores["num_clips"], "clip")} of {scores["dataset"]}'
    if unreadable := len(scores.get('unreadable', {})):
        total = scores['num_clips'] + unreadable
        clips = f'{scores["num_clips"]} of {counted(total, "clip")} of {scores["dataset"]}'
        clips += f' ({unreadable} unreadable, named in metrics.json)'
    if scores.get('multi_label'):
        main = f'{tag_text.main_scores(scores)} on {clips}'
        if left_out := tag_text.left_out(scores):
            main += f'; {left_out}'
    else:
        low, high = scores['accuracy_interval']
        main = (
            f'accuracy {scores["accuracy"]:.3f} (95 % interval {low:.3f} to {high:.3f}) on '
            f'{clips}; macro-F1 {scores["macro_f1"]:.3f}; '
            f'single segments {scores["segment_accuracy"]:.3f}'
        )
    return (
        main
        + ('' if scores.get('finished', True) else '; the run is not finished')
        + (f'; its data changed: {"; ".join(changed)}' if changed else '')
    )


def compared(floor: dict[str, Any]) -> str:
    """The scores of the classical classifiers on the same clips, in one sentence."""
    if 'linear_statistics' in floor:
        return tag_text.compared(floor)
    svm = floor['svm_statistics']
    return (
        f'on the same clips: SVM on statistics{tag_text.sample(svm)} {_short(svm)}, '
        f'majority class {_short(floor["majority"])}'
    )


def _short(scores: dict[str, Any]) -> str:
    macro_f1 = f' (macro-F1 {scores["macro_f1"]:.3f})' if 'macro_f1' in scores else ''
    return f'{scores["accuracy"]:.3f}{macro_f1}'


def read(workdir: str) -> dict[str, Any]:
    """The scores of a finished run; empty if it is not finished, though it may have been scored."""
    path = os.path.join(workdir, 'report', 'metrics.json')
    found = _read_json(path)
    if found and (fault := metrics.fault(found)):
        raise UserError(f'{path} is damaged: {fault}; {_REMEDY}')
    if not json_files.is_intact(found):
        raise UserError(f'{path} is damaged: it differs from its checksum; {_REMEDY}')
    found.pop(json_files.CHECKSUM, None)
    return found if found.get('finished', True) else {}


def read_floor(workdir: str, scores: dict[str, Any]) -> dict[str, Any]:
    """The scores of the classical classifiers that a run's report has.

    Args:
      workdir: folder of the run.
      scores: of the run.

    Returns:
      {classifier: scores}; empty if they were not computed, or on other clips than `scores`, or
      if the file is damaged, as they can be computed again.
    """
    try:
        found = _read_json(os.path.join(workdir, 'report', 'baselines.json'))
    except UserError:
        return {}
    same = all(found.get(name) == scores[name] for name in ('split', 'side'))
    same = same and same_folder(str(found.get('dataset')), scores['dataset'])
    usable = same and json_files.is_intact(found) and is_floor(found.get('scores'), scores)
    return found['scores'] if usable else {}


def is_floor(values: Any, scores: dict[str, Any]) -> bool:
    """Whether values have what `compared` and the page show beside some scores."""
    several = scores.get('multi_label')
    names = ('linear_statistics' if several else 'svm_statistics', 'majority')
    keys = tag_text.FLOOR_SCORES if several else ('accuracy', 'macro_f1')
    try:
        compared(values)
        found = [values[name].get(key) for name in names for key in keys]
        return all(value is None or 0 <= value <= 1 for value in found)
    except (KeyError, OverflowError, TypeError, ValueError):
        return False


def add_floor(config: Config, dataset: Dataset, scores: dict[str, Any]) -> dict[str, Any]:
    """Adds the scores of classical classifiers on the same clips to the report of a run.

    They are computed once and kept in `baselines.json`.

    Args:
      config: of the finished run.
      dataset: its clips.
      scores: of the run.

    Returns:
      {'svm_statistics', 'majority': scores}.
    """
    from glr_jax import baselines  # training starts sooner without them

    found = read_floor(config.workdir, scores)
    if found:
        return found
    which_ones = 'an SVM and the majority class'
    if dataset.multi_label:
        which_ones = 'a linear classifier and label frequencies'
    status(f'scoring {which_ones} on the same clips (--baselines=false: none)')
    found = baselines.floor(dataset, config.data.split)
    folder = os.path.join(config.workdir, 'report')
    which = {name: scores[name] for name in ('dataset', 'split', 'side')}
    values = json_files.sealed(which | {'scores': found})
    _write_json(os.path.join(folder, 'baselines.json'), values)
    _show_floor(os.path.join(folder, 'index.html'), scores, found)
    return found


def _show_floor(path: str, scores: dict[str, Any], floor: dict[str, Any]) -> None:
    """Adds the scores of the classical classifiers to a page, unless an older version wrote it."""
    from glr_jax.page import headline as top

    if os.path.exists(path):
        with open(path, encoding='utf-8', errors='replace') as file:
            before = file.read()
        after = top.replace(before, top.section(scores, _sentence(scores, floor), floor))
        storage.write_text(path, after or before)


def write(
    folder: str, scores: dict[str, Any], config: Config, evidence: Evidence | None = None
) -> None:
    """Writes `index.html` and then `metrics.json`, the mark of a finished run.

    Args:
      folder: of the report.
      scores: of the run.
      config: of the run; of a folder of runs, that of the first with the folder as its workdir.
      evidence: the clips that were scored; without them, the page has only the scores.
    """
    from glr_jax.page.report_page import page  # matplotlib takes half a second of every start

    os.makedirs(folder, exist_ok=True)
    floor, (epochs, damaged) = read_floor(config.workdir, scores), read_log(config.workdir)
    if damaged:
        log = os.path.join(config.workdir, 'metrics.jsonl')
        status(f'{log}: damaged lines are left out of the page')
    sentence = _sentence(scores, floor)
    more: dict[str, Any] = {'floor': floor, 'evidence': evidence, 'folder': folder}
    text = page(scores, sentence, config, epochs, **more)
    storage.write_text(os.path.join(folder, 'index.html'), text)
    _write_json(os.path.join(folder, 'metrics.json'), json_files.sealed(scores))


def _sentence(scores: dict[str, Any], floor: dict[str, Any]) -> str:
    return headline(scores) + (f'; {compared(floor)}' if floor else '')


def write_predictions(
    folder: str,
    dataset: Dataset,
    members: Int[np.ndarray, ' clips'],
    probabilities: Float[np.ndarray, 'clips labels'],
    thresholds: Sequence[float] = (),
) -> None:
    """Writes `predictions.csv`: id, true label, decision, and the probability of each label.

    Where clips may have several labels, the columns are id, labels, decision, with the names joined
    by `|`.

    Args:
      folder: of the report.
      dataset: the clips.
      members: their numbers.
      probabilities: of each label.
      thresholds: the probability from which each label is decided, where clips may have several;
        () = 0.5 for all.
    """
    os.makedirs(folder, exist_ok=True)
    storage.remove_partial(folder)
    path = os.path.join(folder, 'predictions.csv')
    decided = tag_metrics.decided(probabilities, thresholds) if dataset.multi_label else None
    with (
        storage.to_write(path) as partial,
        open(partial, 'w', newline='', encoding='utf-8') as file,
    ):
        writer = csv.writer(file)
        column = 'label' if decided is None else 'labels'
        writer.writerow(['id', column, 'decision', *probability_columns(dataset.labels, COLUMNS)])
        for k, (clip, row) in enumerate(zip(members, probabilities, strict=True)):
            chosen = [row.argmax()] if decided is None else np.flatnonzero(decided[k])
            names = dataset.labels_of(clip), [dataset.labels[label] for label in chosen]
            cells = map(SEPARATOR.join, names)
            id = os.fsencode(dataset.ids[clip]).decode('utf-8', 'backslashreplace')
            writer.writerow([id, *cells, *(f'{p:.4f}' for p in row)])


def _read_json(path: str) -> dict[str, Any]:
    if not os.path.exists(path):
        return {}
    return json_files.read_object(path, _REMEDY)


def _write_json(path: str, values: dict[str, Any]) -> None:
    with storage.to_write(path) as partial, open(partial, 'w') as file:
        json.dump(values, file, indent=2)
        file.write('\n')
