"""What a run is: frozen dataclasses, one flag a field (`--model.norm=glr`)."""

import dataclasses
import json
import math
import os
import re
from collections.abc import Collection
from typing import Literal

from data_prep import storage
from glr_jax.cli import UsageError, UserError, from_dict, option, section, to_dict

GROUPS = 8  # of group normalisation
WITHOUT_EFFECT = {
    'resident',
    'recurrence',
    'accumulate',
    'steps_per_dispatch',
}  # on results; and all of parallel


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which clips."""

    dir: str = option('', 'dataset folder that data_prep wrote')
    split: str = option('random-1', 'protocol: a column of splits.csv')
    frames: int = option(640, 'frames of a segment, crop in training and unit of decision', 8)
    resident: Literal['auto', 'on', 'off'] = option(
        'auto', 'training clips stay on the devices, where they fit; or are read as they are needed'
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The architecture; Table 3 of the paper has the values."""

    kind: Literal['crnn', 'cnn', 'rnn'] = option('crnn', 'convolutions, recurrence, or both')
    norm: Literal['glr', 'glr_layer', 'batch', 'batch_sync', 'group', 'none'] = option(
        'glr', 'over features, over the layer, over the batch of a device or of all, ...'
    )
    conv: Literal['1d', '2d'] = option('1d', 'kernel over time and all mels, or time by mels')
    kernels: tuple[int, ...] = option((128, 128), 'kernels of each convolution, in order', 1)
    kernel_size: int = option(5, 'taps of a kernel, along each of its axes', minimum=1)
    pool: tuple[int, ...] = option((2,), 'max-pool after each convolution; one for all will do', 1)
    cell: Literal['simple', 'gru', 'lstm'] = option('simple', 'recurrent cell')
    hidden: int = option(96, 'units of the recurrent layer', minimum=1)
    readout: Literal['mean', 'last', 'local'] = option(
        'mean', 'mean of the states, last state, or mean of local outputs (Eq. 6)'
    )
    dropout: float = option(0.3, 'rate on the dense connections', minimum=0.0)
    dtype: Literal['float32', 'bfloat16'] = option(
        'float32', 'of the arithmetic of layers; parameters, statistics and loss are float32'
    )
    recurrence: Literal['auto', 'scan', 'fused'] = option(
        'auto',
        'a scan over time, or one kernel for all steps: GLR in a simple cell of at most 128 units; '
        'auto takes that on a GPU where it can. A CPU interprets it, slowly. Results are the same',
    )

    def conv_layers(self) -> list[tuple[int, int]]:
        """(kernels, pool size) of each convolution; a plain RNN has none."""
        return [] if self.kind == 'rnn' else list(zip(self.kernels, self.pools(), strict=True))

    def pools(self) -> tuple[int, ...]:
        """The pool size of each of `kernels`."""
        return self.pool * len(self.kernels) if len(self.pool) == 1 else self.pool


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Optimisation: Adam on the cross-entropy."""

    epochs: int = option(50, 'passes over the training clips', minimum=1)
    batch_size: int = option(32, 'clips a step, over all devices', minimum=1)
    accumulate: int = option(
        1,
        'micro-batches that each device makes of its share of a step, to save memory; results are '
        'the same, but for batch norm, which normalises over a micro-batch then',
        minimum=1,
    )
    steps_per_dispatch: int = option(
        0, 'steps that a device does on its own; 0: 1, but 16 of resident clips off CPUs', minimum=0
    )
    learning_rate: float = option(1e-3, 'of Adam, at its highest', minimum=0.0)
    schedule: Literal['cosine', 'constant'] = option('cosine', 'learning rate over the run')
    mixup: float = option(0.4, 'mixes clips two by two, shares from Beta(a, a); 0: none', 0.0)


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """Devices. Results do not depend on these, so a run may go on under others.

    But for batch normalisation, where `save` sees to it.
    """

    mapper: Literal['shard_map', 'pmap'] = option('shard_map', 'what runs the per-device program')
    cpu_devices: int = option(0, 'simulate so many devices on the CPU', minimum=0)
    coordinator: str = option(
        '', 'for several processes: HOST:PORT of process 0, or auto on Slurm, TPU pods and GKE'
    )
    num_processes: int = option(1, 'processes of the run, with HOST:PORT', minimum=1)
    process_id: int = option(0, 'which of them this is, from 0', minimum=0)
    timeout: int = option(300, 'seconds to wait for the other processes, at start and end', 1)


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    workdir: str = option('', 'folder of checkpoints, logs and report')
    seed: int = option(0, 'of weights, order of clips, crops and dropout')
    profile: int = option(0, 'steps to trace, after the first ones, into the workdir', minimum=0)
    data: DataConfig = section(DataConfig)
    model: ModelConfig = section(ModelConfig)
    train: TrainConfig = section(TrainConfig)
    parallel: ParallelConfig = section(ParallelConfig)


def check(config: Config) -> None:
    """Raises `UsageError` for values that do not go together."""
    model = config.model
    if not config.workdir:
        raise UsageError('--workdir=FOLDER is needed: where checkpoints and the report go')
    storage.check_here(config.workdir, '--workdir')
    if not config.data.dir:
        raise UsageError('--data.dir=FOLDER is needed: the dataset that data_prep wrote')
    if len(model.pools()) != len(model.kernels):
        raise UsageError(
            f'--model.pool has {len(model.pool)} sizes for {len(model.kernels)} convolutions '
            '(--model.kernels); give one size, or one for each'
        )
    if not 0 <= model.dropout < 1:
        raise UsageError(f'--model.dropout={model.dropout} is not in 0 <= rate < 1')
    _check_processes(config.parallel)
    if config.data.frames < math.prod(model.pools()):
        raise UsageError(f'--data.frames={config.data.frames} is too short for --model.pool')
    uneven = [n for n in (*model.kernels, model.hidden) if n % GROUPS]
    if model.norm == 'group' and uneven:
        raise UsageError(f'--model.norm=group needs multiples of {GROUPS} units, not {uneven[0]}')


def _check_processes(parallel: ParallelConfig) -> None:
    count, id = parallel.num_processes, parallel.process_id
    address = re.fullmatch(r'.+:\d+', parallel.coordinator)
    if parallel.coordinator not in ('', 'auto') and not address:
        raise UsageError(f'--parallel.coordinator={parallel.coordinator} is not HOST:PORT or auto')
    if (count, id) != (1, 0) and not address:
        raise UsageError(
            '--parallel.num_processes and --parallel.process_id go with '
            '--parallel.coordinator=HOST:PORT; auto finds them by itself'
        )
    if id >= count:
        raise UsageError(f'--parallel.process_id={id} is not in 0 to {count - 1}')


def save(config: Config, devices: int | None = None) -> None:
    """Writes `config.json` into a new workdir, or makes sure that the one there is the same.

    Args:
      config: of the run.
      devices: how many it would train on; None if it is only to be read.

    Raises:
      UserError: the workdir belongs to a run of another config, or to something else, or batch
        normalisation would take its statistics over another number of clips on these devices.
    """
    path = os.path.join(config.workdir, 'config.json')
    together = None if devices is None else normalised_together(config, devices)
    if not os.path.exists(path):
        if os.path.isdir(config.workdir) and os.listdir(config.workdir):
            raise UserError(f'{config.workdir} is not empty and no run of ours; choose another')
        os.makedirs(config.workdir, exist_ok=True)
        with storage.to_write(path) as partial, open(partial, 'w') as file:
            json.dump(to_dict(config) | {'normalised_together': together}, file, indent=2)
            file.write('\n')
        return
    found = differences(load(config.workdir), config)
    if found:
        raise UserError(
            f'{config.workdir} holds a run with {", ".join(found)}; '
            'choose another --workdir, or give the same flags to go on with it'
        )
    with open(path) as file:
        before = json.load(file).get('normalised_together')  # not there in older runs
    if together and before and together != before:
        parts = config.train.batch_size // before
        raise UserError(
            f'{config.workdir} holds a run with batch normalisation over {before} clips at a time, '
            f'here it would be over {together}; go on with it '
            + ('where devices times ' if config.model.norm == 'batch' else 'where ')
            + f'--train.accumulate is {parts}'
        )


def normalised_together(config: Config, devices: int) -> int | None:
    """Over how many clips batch normalisation takes its statistics; None: a clip is by itself."""
    match config.model.norm:
        case 'batch':
            return config.train.batch_size // (devices * config.train.accumulate)
        case 'batch_sync':
            return config.train.batch_size // config.train.accumulate
        case _:
            return None


def load(workdir: str) -> Config:
    """The config of the run in a workdir; raises `UserError` where there is none."""
    path = os.path.join(workdir, 'config.json')
    try:
        with open(path) as file:
            return from_dict(Config, json.load(file))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f'{workdir} holds no run: there is no {path}') from None
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise UserError(f'{path} is damaged: {error}') from None


def differences(old: Config, new: Config, but: Collection[str] = WITHOUT_EFFECT) -> list[str]:
    """Flags of the old run that the new one would change, but for those that change no result."""
    before, after = to_dict(old), to_dict(new)
    return [
        f'--{name}.{key}={before[name][key]} (not {after[name][key]})'
        for name in ('data', 'model', 'train')
        for key in before[name]
        if before[name][key] != after[name][key] and key not in but
    ] + ([f'--seed={old.seed} (not {new.seed})'] if old.seed != new.seed else [])
