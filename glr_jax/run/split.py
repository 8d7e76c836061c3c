"""The split of a run: the one that was asked for, or the one that suits the dataset best."""

import dataclasses

from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.data.split_table import default_split
from glr_jax.devices import processes
from glr_jax.devices.processes import announce
from glr_jax.run import workdir


def choose_split(config: Config, dataset: Dataset) -> Config:
    """The config with its split; announces a choice, and groups on two sides of a random split.

    Without --data.split, a run in the workdir keeps its split. A new one gets `official` if the
    source defines it, else `group-1` if there are groups, else `random-1`.

    Args:
      config: of the run.
      dataset: its clips.

    Raises:
      UserError: the workdir has a damaged `config.json`, or the dataset has no such split.
    """
    given = config.data.split or processes.on_first(lambda: _split_of_run(config.workdir))
    if given:
        split = given
    else:
        split, why = default_split(dataset.splits, dataset.groups)
        if split != 'random-1':  # what a run has always had is no news
            announce(f'--data.split={split}, because {why}')
    shared, of = shared_groups(dataset, split) if split.startswith('random-') else (0, 0)
    if shared:
        remedy = (
            '--data.split=group-1 has none'
            if 'group-1' in dataset.splits
            else 'there are too few groups for a group split'
        )
        announce(
            f'--data.split={split}: {shared} of the {of} groups of its {dataset.held_out(split)} '
            f'clips are in training too, so scores will be optimistic; {remedy}'
        )
    return dataclasses.replace(config, data=dataclasses.replace(config.data, split=split))


def shared_groups(dataset: Dataset, split: str) -> tuple[int, int]:
    """How many groups of the held-out clips have training clips too, and how many there are."""
    if not any(dataset.groups):
        return 0, 0
    train, held = (
        {dataset.groups[clip] for clip in dataset.members(split, side)} - {''}
        for side in ('train', dataset.held_out(split))
    )
    return len(train & held), len(held)


def _split_of_run(folder: str) -> str:
    """The split of the run in a workdir; '' if there is none."""
    before = workdir.stored_config(folder)
    return before.data.split if before else ''
