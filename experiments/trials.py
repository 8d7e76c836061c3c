"""Trials: the training runs that a study consists of, and how such a study starts."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from experiments.common import check_folder
from glr_jax import cli, report, train
from glr_jax.cli import status
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.devices import parallel, startup
from glr_jax.errors import UserError
from glr_jax.nn.config import GLR_NORMS, ModelConfig, NormName
from glr_jax.run.workdir import read_log
from glr_jax.text import in_ranges


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training run of a study.

    Attributes:
      name: shown as progress.
      config: of the run.
      varied: what the study varies, as it stands in the trial's row of `results.json`.
      devices: how many devices share each step; None: all.
    """

    name: str
    config: Config
    varied: dict[str, Any]
    devices: int | None = None

    def mesh(self) -> Mesh:
        """The devices that share each step."""
        return parallel.make_mesh(jax.devices()[: self.devices])

    def scores(self) -> dict[str, Any]:
        """The test scores (`metrics.json`); empty until the trial is finished."""
        return report.read(self.config.workdir)

    def epochs(self) -> list[dict[str, Any]]:
        """One row per epoch (`metrics.jsonl`)."""
        return read_log(self.config.workdir)[0]


def start(
    study: Any,
    argv: Sequence[str],
    taken: dict[str, str],
    cpu_devices: int,
    *,
    multi_label: bool = False,
) -> Dataset:
    """Checks the flags of a study that trains, sets up JAX and opens the dataset.

    Args:
      study: its parsed flags, with `out` and `data.dir`.
      argv: the program's name and its arguments.
      taken: {flag that the study sets itself: flag to give instead}.
      cpu_devices: how many devices to simulate on the CPU; 0: none.
      multi_label: whether the study can compare networks on clips with several labels.

    Raises:
      UsageError: a required flag is missing, a flag in `taken` is on the command line, or `out` is
        not a folder.
      UserError: the dataset cannot be opened, or its clips may have several labels and the study
        needs one.
    """
    cli.need(study, 'data.dir', 'out')
    cli.refuse(argv, taken)
    check_folder(study.out)
    parallel.set_cpu_devices(cpu_devices)
    startup.enable_compilation_cache()
    startup.check_devices()
    dataset = open_dataset(study.data.dir)
    if dataset.multi_label and not multi_label:
        raise UserError(
            f'--data.dir={study.data.dir}: its clips may have several labels, but this study needs '
            'one label per clip; use python -m experiments.crossvalidate'
        )
    return dataset


def split_of(protocol: str, iteration: int, dataset: Dataset) -> str:
    """The split of an iteration: `random-2`, or `official` if the protocol has one split only.

    Raises:
      UserError: the dataset has no such split.
    """
    for name in (f'{protocol}-{iteration}', protocol):
        if name in dataset.splits:
            return name
    raise UserError(
        f'--protocol={protocol} has no split for iteration {iteration} in {dataset.folder}; '
        f'the splits there are {in_ranges(dataset.splits)}'
    )


def with_norm(model: ModelConfig, norm: NormName) -> ModelConfig:
    """The same network with another norm; it passes the level on only if the norm is GLR."""
    level = model.pass_level and norm in GLR_NORMS
    return dataclasses.replace(model, norm=norm, pass_level=level)


def check(trials: Sequence[Trial], dataset: Dataset) -> None:
    """Checks every trial before the first one starts.

    Raises:
      UserError: a trial does not suit the dataset or the number of devices.
    """
    for trial in trials:
        config = trial.config
        dataset.members(config.data.split, 'train')
        config.model.check_bands(dataset.n_mels)
        parallel.process_slice(config.train.batch_size, trial.mesh(), config.train.accumulate)


def train_each(
    trials: Sequence[Trial], dataset: Dataset, *, past_divergence: bool = False
) -> Iterator[Trial]:
    """Trains one trial after another, and yields each when it is done.

    Finished trials are not repeated, interrupted ones resume.

    Args:
      trials: in the order of training.
      dataset: the clips.
      past_divergence: if the loss of a trial becomes NaN or infinite, print so and continue; the
        trial then has no scores. Otherwise raise `DivergedError`.
    """
    for number, trial in enumerate(trials, 1):
        status(f'[{number}/{len(trials)}] {trial.name}')
        try:
            train.train_and_evaluate(trial.config, dataset, trial.mesh())
        except train.DivergedError as error:
            if not past_divergence:
                raise
            status(str(error))
        yield trial
