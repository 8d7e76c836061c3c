"""Labels that a run cannot learn, or cannot choose a threshold for, since no clip has them."""

import numpy as np
from jaxtyping import Int

from glr_jax.data.dataset import Dataset
from glr_jax.data.tables import names_of
from glr_jax.devices.processes import announce
from glr_jax.text import counted


def untrained_labels(dataset: Dataset, split: str) -> tuple[str, ...]:
    """The labels that no training clip of a split has, if clips may have several labels.

    They are left out of the macro scores. Where each clip has one label, none are.
    """
    if not dataset.multi_label:
        return ()
    return _missing(dataset, dataset.members(split, 'train'))


def announce_missing_labels(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], validation: Int[np.ndarray, ' validation']
) -> None:
    """Names the labels that no training clip has and, for thresholds, that no validation clip has.

    Args:
      dataset: where the clips are.
      clips: the training clips.
      validation: the validation clips, which choose the thresholds where clips may have several
        labels.
    """
    _announce(dataset, clips, 'training clip and cannot be learned')
    if dataset.multi_label:
        _announce(dataset, validation, 'validation clip, so the threshold stays 0.5')


def _announce(dataset: Dataset, clips: Int[np.ndarray, ' some'], what: str) -> None:
    if missing := _missing(dataset, clips):
        verb = 'has' if len(missing) == 1 else 'have'
        announce(f'{counted(len(missing), "label")} {verb} no {what}: {names_of(missing)}')


def _missing(dataset: Dataset, clips: Int[np.ndarray, ' some']) -> tuple[str, ...]:
    found = dataset.has_label()[clips].any(0)
    return tuple(label for label, has in zip(dataset.labels, found, strict=True) if not has)
