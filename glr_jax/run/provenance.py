"""What a checkpoint records about its run, and which datasets and runs go with it."""

import dataclasses
from collections.abc import Sequence

from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.data.front_end import FrontEnd
from glr_jax.errors import UserError
from glr_jax.fields import to_dict
from glr_jax.run.labels import untrained_labels

MAX_BANDS = 1 << 16  # of a checkpoint, which may be anybody's


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a checkpoint records about its run.

    Attributes:
      config: of the run.
      labels: the class names, in order.
      front_end: of the dataset.
      from_audio: of the dataset.
      n_mels: mel bands.
      seconds: training time until then.
      data: digest of the training data (`training_data.py`); '' in older checkpoints.
      multi_label: whether a clip may have several labels.
      thresholds: the probability from which each of several labels is decided, chosen on the
        validation clips; () in checkpoints that were saved before validation.
      untrained: labels that no training clip has, where clips may have several: they are left out
        of the macro scores, on other data too.
    """

    config: Config
    labels: tuple[str, ...]
    front_end: FrontEnd
    from_audio: bool
    n_mels: int
    seconds: float = 0.0
    data: str = ''
    multi_label: bool = False
    thresholds: tuple[float, ...] = ()
    untrained: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.n_mels <= MAX_BANDS:
            raise UserError(f'n_mels={self.n_mels} must be between 1 and {MAX_BANDS}')


def make_meta(config: Config, dataset: Dataset, data: str = '') -> Meta:
    """What the checkpoints of a run on a dataset record; `data` is the digest of its data."""
    return Meta(
        config,
        dataset.labels,
        dataset.front_end,
        dataset.from_audio,
        dataset.n_mels,
        data=data,
        multi_label=dataset.multi_label,
        untrained=untrained_labels(dataset, config.data.split),
    )


def check_dataset(dataset: Dataset, meta: Meta, workdir: str) -> None:
    """Raises `UserError` if a dataset's labels or front end differ from those trained on."""
    check_task(dataset, meta, workdir)
    if dataset.labels != meta.labels or dataset.n_mels != meta.n_mels:
        raise UserError(
            f'{dataset.folder} has other labels or mel bands than {workdir} was trained on'
        )
    check_front_end(dataset, meta, workdir)


def check_task(dataset: Dataset, meta: Meta, workdir: str) -> None:
    """Raises `UserError` if clips have one label and those trained on may have several."""
    if dataset.multi_label != meta.multi_label:
        raise UserError(
            f'{workdir} decides {_task(meta.multi_label)} per clip, but {dataset.folder} has '
            f'{_task(dataset.multi_label)} per clip'
        )


def check_front_end(dataset: Dataset, meta: Meta, workdir: str) -> None:
    """Raises `UserError` if a dataset's front end differs from the one trained on."""
    if dataset.n_mels != meta.n_mels:
        raise UserError(
            f'{dataset.folder} has {dataset.n_mels} mel bands, but {workdir} was trained on '
            f'{meta.n_mels}'
        )
    now, then = _different_flags(dataset.front_end, meta.front_end)
    if now != then:
        raise UserError(
            f'{dataset.folder} was prepared with {now}, but {workdir} was trained on '
            f'{then}; prepare it again with the latter'
        )


def check_alike(runs: Sequence[tuple[str, Meta]]) -> None:
    """Raises `UserError` if the labels or the front ends of some runs differ.

    Args:
      runs: workdir and meta of each.
    """
    (first_workdir, first), *others = runs
    for workdir, other in others:
        pair = f'{first_workdir} and {workdir} cannot be averaged'
        if first.multi_label != other.multi_label:
            raise UserError(f'{pair}: only one of them decides several labels per clip')
        if first.labels != other.labels:
            raise UserError(f'{pair}: their labels differ')
        if first.from_audio != other.from_audio:
            raise UserError(f'{pair}: only one of them was trained on ready-made spectrograms')
        if first.n_mels != other.n_mels:
            raise UserError(f'{pair}: they have {first.n_mels} and {other.n_mels} mel bands')
        one, two = _different_flags(first.front_end, other.front_end)
        if one != two:
            raise UserError(f'{pair}: their datasets were prepared with {one} and {two}')


def _task(multi_label: bool) -> str:
    return 'any number of labels' if multi_label else 'exactly one label'


def _different_flags(one: FrontEnd, other: FrontEnd) -> tuple[str, str]:
    """The flags of two front ends where they differ; two empty texts if they are equal."""
    a, b = to_dict(one), to_dict(other)
    changed = [name for name in b if a[name] != b[name]]
    flags = lambda values: ' '.join(f'--{name}={values[name]}' for name in changed)
    return flags(a), flags(b)
