"""Trained networks, restored from their workdirs and ready to use."""

import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from glr_jax import inference, report, tag_metrics
from glr_jax.devices import parallel
from glr_jax.devices.processes import announce
from glr_jax.errors import UserError
from glr_jax.export import hub, weights
from glr_jax.run import checkpoint, provenance
from glr_jax.run.checkpoint import Best
from glr_jax.run.workdir import find_runs


def restore(workdir: str) -> list[Best]:
    """The best checkpoint of a workdir, or of each run below it, on this process's devices.

    Args:
      workdir: of a run, a folder of runs, a folder that `glr_jax.export` wrote, or `hf:USER/NAME`.

    Raises:
      UserError: there is no checkpoint, or the runs have other labels or front ends.
    """
    if workdir.startswith(hub.PREFIX):
        workdir = hub.download(workdir)
    mesh = parallel.make_mesh(jax.local_devices())
    workdirs = find_runs(workdir)
    if workdirs in ([], [workdir]):
        return [_restore_one(workdir, mesh)]
    runs = []
    for run in workdirs:
        try:
            runs.append(_restore_one(run, mesh))
        except checkpoint.NoCheckpointError:
            announce(f'{run} has no finished checkpoint and is left out')
    if not runs:
        raise UserError(f'no run below {workdir} has a finished checkpoint yet')
    for best in runs:
        if not weights.is_export(best.workdir) and not report.read(best.workdir):
            announce(f'{best.workdir} is not finished; its best checkpoint so far is used')
    provenance.check_alike([(run.workdir, run.meta) for run in runs])
    return runs


def _restore_one(workdir: str, mesh: Mesh) -> Best:
    if weights.is_export(workdir):
        return weights.read(workdir, mesh)
    return checkpoint.restore_best(workdir, mesh)


def mean_thresholds(metas: Sequence[provenance.Meta]) -> tuple[float, ...]:
    """The mean of several runs' thresholds: the best guess without their validation clips."""
    known = [meta.thresholds for meta in metas if meta.thresholds]
    return tuple(map(float, np.mean(known, 0))) if known else ()


def thresholds(runs: Sequence[Best]) -> tuple[float, ...]:
    """The probability from which each label is decided; () where each clip has exactly one label.

    Those of several runs are read from the report of their folder, for which `glr_jax.evaluate`
    chooses them on the validation clips; without such a report, they are the runs' mean. 0.5 where
    the runs have none, since they were not validated yet.
    """
    meta = runs[0].meta
    if not meta.multi_label:
        return ()
    known = _evaluated(runs) or mean_thresholds([run.meta for run in runs])
    return known or (tag_metrics.DEFAULT_THRESHOLD,) * len(meta.labels)


def _evaluated(runs: Sequence[Best]) -> tuple[float, ...]:
    """The thresholds in the report of the folder of several runs; () if it is not of these runs."""
    if len(runs) == 1:
        return ()
    folder = os.path.commonpath([os.path.abspath(run.workdir) for run in runs])
    try:
        scores = report.read(folder)
    except UserError:  # it is damaged, and evaluation writes it again
        return ()
    names = [os.path.relpath(run.workdir, folder) for run in runs]
    same = [row['workdir'] for row in scores.get('runs', [])] == names
    same = same and scores['step'] == [run.step for run in runs]
    if not same or tuple(scores['labels']) != runs[0].meta.labels:
        return ()
    return tag_metrics.thresholds_in(scores)


def predictor(run: Best, batch_size: int = 0, test_crops: int = 0) -> inference.Predictor:
    """A run's network, ready to use on this process's devices.

    Args:
      run: its best checkpoint.
      batch_size: segments per batch; 0: as many as clips per training step.
      test_crops: as `--data.test_crops`; 0: the run's own.
    """
    config = run.meta.config
    return inference.Predictor(
        inference.on_local_devices(run.classifier)(run.state),
        config.data.frames,
        batch_size or config.train.batch_size,
        test_crops or config.data.test_crops,
    )
