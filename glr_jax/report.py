"""The report of a run: a table, `metrics.json`, `predictions.csv`, a page with figures."""

import csv
import json
import os
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from glr_jax import storage
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset


def table(scores: dict[str, Any]) -> str:
    """The scores as text, one line per label."""
    width = max(12, *map(len, scores['labels']))
    lines = [f'{"":{width}}  precision  recall      f1  clips']
    for label, row in scores['per_class'].items():
        lines.append(
            f'{label:{width}}  {row["precision"]:9.3f}  {row["recall"]:6.3f}  {row["f1"]:6.3f}  '
            f'{row["support"]:5}'
        )
    lines.append(
        f'{"mean":{width}}  {scores["precision"]:9.3f}  {scores["recall"]:6.3f}  '
        f'{scores["macro_f1"]:6.3f}  {scores["num_clips"]:5}'
    )
    return '\n'.join([*lines, '', headline(scores)])


def headline(scores: dict[str, Any]) -> str:
    """The main scores in one sentence."""
    low, high = scores['accuracy_interval']
    return (
        f'accuracy {scores["accuracy"]:.3f} (95 % interval {low:.3f} to {high:.3f}) on '
        f'{scores["num_clips"]} {scores["side"]} clips of {scores["split"]}; '
        f'single segments {scores["segment_accuracy"]:.3f}'
    )


def read(workdir: str) -> dict[str, Any]:
    """The scores of a finished run; empty if it is not finished."""
    path = os.path.join(workdir, 'report', 'metrics.json')
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return json.load(file)


def write(folder: str, scores: dict[str, Any], config: Config, log: str) -> None:
    """Writes `metrics.json` and `index.html`; `log` is the run's `metrics.jsonl`."""
    from glr_jax.html_report import (
        page,  # matplotlib would take half a second of the start of every run
    )

    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'index.html'), 'w', encoding='utf-8') as file:
        file.write(page(scores, headline(scores), config, _read_log(log)))
    path = os.path.join(folder, 'metrics.json')
    with storage.to_write(path) as partial, open(partial, 'w') as file:
        json.dump(scores, file, indent=2)
        file.write('\n')


def write_predictions(
    folder: str,
    dataset: Dataset,
    members: Int[np.ndarray, ' clips'],
    probabilities: Float[np.ndarray, 'clips labels'],
) -> None:
    """Writes `predictions.csv`: id, true label, decision, and the probability of each label."""
    with open(os.path.join(folder, 'predictions.csv'), 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['id', 'label', 'decision', *dataset.labels])
        for clip, row in zip(members, probabilities, strict=True):
            label, decision = dataset.targets[clip], row.argmax()
            names = dataset.labels[label], dataset.labels[decision]
            writer.writerow([dataset.ids[clip], *names, *(f'{p:.4f}' for p in row)])


def _read_log(path: str) -> list[dict[str, Any]]:
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [json.loads(line) for line in file]
