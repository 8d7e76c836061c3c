"""Scores of runs on held-out clips, and the report with them."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from glr_jax import inference, metrics, report, scored_data, tag_interval, tag_metrics, trained
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.data.other_data import OtherData
from glr_jax.devices import processes
from glr_jax.devices.processes import announce
from glr_jax.errors import UserError
from glr_jax.nn import cost
from glr_jax.page.evidence import Evidence
from glr_jax.progress import Progress
from glr_jax.run import provenance, training_data
from glr_jax.run.checkpoint import Best
from glr_jax.run.labels import untrained_labels
from glr_jax.storage import same_folder
from glr_jax.text import counted
from glr_jax.trained import predictor, restore


def report_best(
    workdir: str,
    dataset: Dataset,
    split: str,
    runs: Sequence[Best] = (),
    test_crops: int = 0,
    *,
    config: Config | None = None,
    finished: bool = True,
    allow_changed_data: bool = False,
) -> dict[str, Any]:
    """Scores the best checkpoint on the held-out side of a split, and writes the report.

    The probabilities of several runs are averaged, clip by clip. Their accuracy on single segments
    is the mean over the runs.

    Args:
      workdir: folder of the run, or of the runs.
      dataset: the clips.
      split: which of its splits.
      runs: the checkpoints, if they have been restored already.
      test_crops: as `--data.test_crops`; 0: each run's own.
      config: of the run, if it was moved since its checkpoints were saved.
      finished: whether training is done, so that the report marks the run as finished.
      allow_changed_data: as the flag.

    Raises:
      UserError: the dataset has other labels or another front end than a run was trained on, or is
        the run's own and changed since.
    """
    runs = runs or restore(workdir)
    for run in runs:
        provenance.check_dataset(dataset, run.meta, run.workdir)
        if processes.is_first():
            training_data.warn_if_damaged(run.workdir)
    configs = [dataclasses.replace(config or r.meta.config, workdir=r.workdir) for r in runs]
    changed = scored_data.changed(dataset, split, runs, configs, allow_changed_data)
    side = dataset.held_out(split)
    clips = dataset.members(split, side)
    if not len(clips):
        raise UserError(f'--data.split={split} has no test and no validation clips')
    seen = training_data.seen_by_any(dataset, clips, configs)
    _announce_optimism(split, side, seen, dataset, clips, configs)
    predictors = [predictor(run, test_crops=test_crops) for run in runs]
    thresholds = _thresholds(dataset, runs, configs, predictors)
    untrained = _untrained(dataset, runs, configs)
    absent: Sequence[str] = ()
    if isinstance(dataset, OtherData) and dataset.absent:
        absent, present = dataset.absent, dataset.present()
        predictors = [_of_labels(each, present) for each in predictors]
        thresholds = tuple(thresholds[k] for k in present) if thresholds else ()
        dataset = dataset.without_absent()
    what = 'scoring' if len(runs) == 1 else f'scoring {len(clips):,} clips x {len(runs)} runs'
    unit = 'clip' if len(runs) == 1 else 'decision'
    with Progress(len(clips) * len(runs), what, unit, shown=processes.is_first()) as bar:
        decided = [inference.decide_clips(each, dataset, clips, bar.advance) for each in predictors]
    probabilities = np.mean([each for each, _ in decided], 0)
    scores = _scores(dataset, clips, probabilities, thresholds, untrained) | {
        'segment_accuracy': float(np.mean([accuracy for _, accuracy in decided])),
        'split': split,
        'side': side,
        'trained_on': int(seen.trained.sum()),
        'step': runs[0].step,
        'dataset': dataset.folder,
    }
    if dataset.multi_label:  # it takes a second or two, too long for every epoch
        learned = tag_metrics.learned_labels(dataset.labels, untrained)
        has = dataset.has_label()[clips][:, learned]
        interval = tag_interval.macro_roc_auc_interval(has, probabilities[:, learned])
        scores['macro_roc_auc_interval'] = interval
    if seen.by_name.any():
        scores['known_by_name'] = int(seen.by_name.sum())
    if test_crops:
        scores['test_crops'] = test_crops
    if changed:
        scores['changed_data'] = changed
    if isinstance(dataset, OtherData) and dataset.unknown:
        scores['unknown_labels'] = dataset.unknown
    if absent:
        scores['absent_labels'] = list(absent)
    if isinstance(dataset, OtherData) and dataset.skipped:
        scores['unreadable'] = dataset.skipped
    if not finished:
        scores['finished'] = False
    shown = dataclasses.replace(configs[0], workdir=workdir)
    if runs[0].workdir != workdir:  # a folder of runs
        names = [os.path.relpath(run.workdir, workdir) for run in runs]
        main = metrics.main_score(scores)
        each_score = [
            _scores(dataset, clips, each, untrained=untrained)[main] for each, _ in decided
        ]
        scores['step'] = [run.step for run in runs]
        scores['runs'] = [
            {'workdir': name, main: score} for name, score in zip(names, each_score, strict=True)
        ]
        for name, score in zip(names, each_score, strict=True):
            announce(f'{name}: {metrics.NAMES[main]} {metrics.shown(score)}')
    if processes.is_first():
        folder = os.path.join(workdir, 'report', subfolder(dataset, split, test_crops, configs))
        report.write_predictions(folder, dataset, clips, probabilities, thresholds)
        evidence = Evidence(
            dataset,
            clips,
            probabilities,
            lambda some: _over_time(predictors, dataset, some),
            parameters=sum(cost.size(run.state[0]) for run in runs),
            trained_here=config is not None,
        )
        report.write(folder, scores, shown, evidence)  # marks the run as finished, so it is last
    return scores


def _thresholds(
    dataset: Dataset,
    runs: Sequence[Best],
    configs: Sequence[Config],
    predictors: Sequence[inference.Predictor],
) -> tuple[float, ...]:
    """The probability from which each label is decided; () where each clip has exactly one.

    The mean of several runs' probabilities is less spread out than those of each run, so it gets
    thresholds of its own, chosen on the validation clips that the runs share.
    """
    mine = configs[0].data
    shared = all(
        config.data.split == mine.split and same_folder(config.data.dir, dataset.folder)
        for config in configs
    )
    if len(runs) == 1 or not dataset.multi_label or not shared:
        return trained.thresholds(runs)
    clips = dataset.members(mine.split, 'validation')
    announce(f'choosing thresholds for the mean of {len(runs)} runs on their validation clips')
    each = [inference.decide_clips(one, dataset, clips)[0] for one in predictors]
    return tag_metrics.best_thresholds(dataset.has_label()[clips], np.mean(each, 0))


def _untrained(
    dataset: Dataset, runs: Sequence[Best], configs: Sequence[Config]
) -> tuple[str, ...]:
    """The labels that no run has learned, as none of its training clips has them."""
    found = []
    for run, config in zip(runs, configs, strict=True):
        names = run.meta.untrained
        if same_folder(dataset.folder, config.data.dir):  # older checkpoints do not say it
            names = untrained_labels(dataset, config.data.split)
        found.append(names)
    return tuple(label for label in dataset.labels if all(label in names for names in found))


def _of_labels(
    network: inference.Predictor, labels: Int[np.ndarray, ' some']
) -> inference.Predictor:
    """A network with some of its labels, of which a clip may have several."""

    def apply(mel: Num[np.ndarray, 'segments frames mels']) -> inference.Output:
        output = network.apply(mel)
        return output._replace(probabilities=np.asarray(output.probabilities)[:, labels])

    return network._replace(apply=apply)


def _over_time(
    predictors: Sequence[inference.Predictor], dataset: Dataset, clips: Int[np.ndarray, ' some']
) -> list[tuple[Any, Any]]:
    """The probabilities of the segments of some clips, as `inference.over_time`."""
    # A clip may be hours long, so only its length is kept.
    lengths = [len(dataset.mel(clip)) for clip in clips]
    decisions = [
        inference.decide(each, (dataset.mel(clip) for clip in clips)) for each in predictors
    ]
    return inference.over_time(predictors, decisions, lengths)


def subfolder(dataset: Dataset, split: str, test_crops: int, configs: Sequence[Config]) -> str:
    """Where below `report/` the scores go; '' for those of the runs' own test clips."""
    other_dataset = not all(same_folder(dataset.folder, each.data.dir) for each in configs)
    other_crops = not all(test_crops in (0, each.data.test_crops) for each in configs)
    if not other_dataset and not other_crops and all(split == each.data.split for each in configs):
        return ''
    name = os.path.basename(os.path.realpath(dataset.folder))
    parts = [name] * other_dataset + [split] + [f'{test_crops}-crops'] * other_crops
    return '-'.join(parts)


def _announce_optimism(
    split: str,
    side: str,
    seen: training_data.Seen,
    dataset: Dataset,
    clips: Int[np.ndarray, ' clips'],
    configs: Sequence[Config],
) -> None:
    if side != 'test':
        announce(
            f'{split} has no test clips; the report is on the validation clips, '
            'so the scores are optimistic'
        )
    if leaked := int(seen.trained.sum()):
        leaking = [
            config for config in configs if training_data.trained_on(dataset, clips, [config])
        ]
        names = ', '.join(dict.fromkeys(config.data.split for config in leaking))
        was = 'was' if leaked == 1 else 'were'
        announce(
            f'{leaked} of these {counted(len(clips), "clip")} {was} trained on under {names}: '
            'the scores are optimistic'
        )
    for some, what in (
        (seen.by_name, 'which counts, as their spectrograms are not known'),
        (seen.namesakes, 'but another spectrogram, so they do not count as trained on'),
    ):
        if count := int(some.sum()):
            have = 'has' if count == 1 else 'have'
            announce(
                f'{count} of the {counted(len(clips), "clip")} {have} the name of a clip that the '
                f'run was trained on, {what}'
            )


def score(
    apply: inference.Apply, dataset: Dataset, clips: Int[np.ndarray, ' clips'], run: Config
) -> dict[str, Any]:
    """Scores of the validation clips with the weights of `apply`.

    Where clips may have several labels, the clips also choose the thresholds.
    """
    cut = run.data.frames, run.train.batch_size, run.data.test_crops
    probabilities, _ = inference.decide_clips(inference.Predictor(apply, *cut), dataset, clips)
    thresholds: tuple[float, ...] = ()
    if dataset.multi_label:
        thresholds = tag_metrics.best_thresholds(dataset.has_label()[clips], probabilities)
    untrained = untrained_labels(dataset, run.data.split)
    return _scores(dataset, clips, probabilities, thresholds, untrained)


def _scores(
    dataset: Dataset,
    clips: Int[np.ndarray, ' clips'],
    probabilities: Float[np.ndarray, 'clips labels'],
    thresholds: Sequence[float] = (),
    untrained: Sequence[str] = (),
) -> dict[str, Any]:
    if dataset.multi_label:
        has = dataset.has_label()[clips]
        found = tag_metrics.scores(has, probabilities, dataset.labels, thresholds, untrained)
        return found | {'loss': tag_metrics.binary_cross_entropy(has, probabilities)}
    targets = dataset.targets[clips]
    scores = metrics.scores(targets, probabilities.argmax(1), dataset.labels)
    return scores | {'loss': metrics.cross_entropy(targets, probabilities)}
