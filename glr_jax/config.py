"""The config of a run: frozen dataclasses, one flag per field (`--model.norm=glr`).

A config that does not go together cannot be built: every dataclass checks itself.
"""

import dataclasses
import re
from collections.abc import Collection
from typing import Literal

from glr_jax import storage
from glr_jax.errors import UsageError
from glr_jax.fields import check_fields, from_dict, option, section, to_dict
from glr_jax.nn.config import ModelConfig

ClassWeights = Literal['none', 'balanced']
Sampler = Literal['shuffled', 'balanced']
Mapper = Literal['shard_map', 'pmap']

MAX_FRAMES = 10**6  # in a segment
MAX_MASKS = 20  # time masks, and band masks, in a segment
# Flags that do not change results, so that a run may resume with others; all of `parallel` too.
WITHOUT_EFFECT = frozenset({'resident', 'recurrence', 'accumulate', 'steps_per_dispatch'})


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which clips, and how much of each at a time."""

    dir: str = option('', 'dataset folder that data_prep wrote', is_path=True)
    split: str = option(
        'random-1',
        'which split: a column of splits.csv; train chooses one if none is given: official, else '
        'group-1 if there are groups, else random-1',
    )
    frames: int = option(
        1280, 'frames per segment, in training and evaluation', 8, maximum=MAX_FRAMES
    )
    resident: Literal['auto', 'on', 'off'] = option(
        'auto',
        'keep the training clips in device memory, or read them during training; '
        'auto = keep them if they fit',
    )
    test_crops: int = option(
        1,
        'in evaluation and prediction, cut this many times as many segments from each clip; they '
        'then overlap',
        1,
        maximum=1000,
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Optimisation: AdamW on the cross-entropy. The paper's is Adam; see `gtzan_paper.flags`."""

    epochs: int = option(40, 'passes over the training clips', 1, maximum=10**6)
    min_steps: int = option(
        0,
        'train for at least this many steps: more epochs for small datasets; 0 = off',
        minimum=0,
        maximum=10**9,
    )
    patience: int = option(
        0,
        'end the run when the validation loss has not improved for this many epochs; the learning '
        'rate still follows its schedule over all epochs; 0 = off',
        minimum=0,
    )
    time_limit: float = option(
        0.0,
        'end the run after this many minutes, over all resumes; the result then depends on the '
        'speed of the machine; 0 = off',
        minimum=0,
    )
    batch_size: int = option(32, 'clips per step, over all devices', 1, maximum=2**20)
    accumulate: int = option(
        1,
        'micro-batches per step and device, to save memory; results are the same, except that '
        'batch norm then normalises over a micro-batch',
        minimum=1,
    )
    steps_per_dispatch: int = option(
        0,
        'steps that a device runs without returning to the host; '
        '0 = automatic: 16 on a GPU or TPU with resident clips, else 1',
        minimum=0,
    )
    learning_rate: float = option(1e-3, 'highest learning rate of Adam', minimum=0)
    schedule: Literal['cosine', 'constant'] = option('cosine', 'learning rate during the run')
    warmup: float = option(
        0.05,
        'fraction of the steps in which the learning rate rises from 0',
        minimum=0,
        below=1,
        before=0.0,
    )
    weight_decay: float = option(
        0.1,
        'decay of kernels, not of gains and biases (AdamW); 0 = plain Adam',
        minimum=0,
        before=0.0,
    )
    average: float = option(
        0.99,
        'evaluate an exponential moving average of the weights with this decay, less in the first '
        'steps; 0 = off',
        minimum=0,
        below=1,
        before=0.0,
    )
    label_smoothing: float = option(
        0.1,
        'fraction of each training target that is spread evenly over the labels; 0 = off',
        minimum=0,
        below=1,
        before=0.0,
    )
    mixup: float = option(
        0.0, 'mix clips in pairs with weights from Beta(a, a); 0 = off', minimum=0
    )
    class_weights: ClassWeights = option(
        'none',
        'weight each clip in the training loss: balanced = by the inverse of how many training '
        'clips have its label; with several labels per clip, each label, so that its presence and '
        'its absence count alike',
    )
    sampler: Sampler = option(
        'shuffled',
        'the training clips of an epoch: shuffled = each once; balanced = as many, drawn so that '
        'each label is due equally often, and clips without labels as often as one label',
    )

    def __post_init__(self) -> None:
        check_fields(self)

    def all_epochs(self, clips: int) -> int:
        """Epochs of a run on `clips` training clips: `epochs`, or more to reach `min_steps`."""
        return max(self.epochs, -(-self.min_steps * self.batch_size // clips))


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random changes of each training segment, drawn anew each time that it is used."""

    time_masks: int = option(
        0, 'hide this many random stretches of time (SpecAugment); 0 = off', 0, maximum=MAX_MASKS
    )
    time_mask: float = option(
        0.1, 'largest width of a time mask, as a fraction of the segment', minimum=0, maximum=1
    )
    band_masks: int = option(
        0, 'hide this many random ranges of mel bands (SpecAugment); 0 = off', 0, maximum=MAX_MASKS
    )
    band_mask: float = option(
        0.15, 'largest width of a band mask, as a fraction of the bands', minimum=0, maximum=1
    )
    equalizer: float = option(
        0.0,
        'standard deviation of a random gain that varies smoothly over the mel bands, as a '
        'fraction of the deviation of all training values; 0 = off',
        minimum=0,
    )
    level: float = option(
        0.0,
        'standard deviation of one random gain for the whole segment, in that unit; 0 = off',
        minimum=0,
    )
    stretch: float = option(
        0.0,
        'change the tempo by a random factor between 1/(1+s) and 1+s; 0 = off',
        minimum=0,
        maximum=10,
    )
    pitch: float = option(
        0.0,
        'scale the mel axis by a random factor between 1/(1+p) and 1+p; 0 = off',
        minimum=0,
        maximum=10,
    )
    shortest: float = option(
        1.0,
        'keep a random part of each segment, at least this fraction of it, and repeat the part to '
        'fill the segment; 1 = off',
        above=0,
        maximum=1,
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class LocalConfig:
    """The devices of one process. Results do not depend on them, except with batch norm."""

    mapper: Mapper = option('shard_map', 'JAX transform that runs the per-device program')
    cpu_devices: int = option(
        0, 'simulate this many devices on the CPU; 0 = off', minimum=0, maximum=1024
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class ParallelConfig(LocalConfig):
    """The devices of one or several processes."""

    coordinator: str = option(
        '', 'several processes: HOST:PORT of process 0, or auto on Slurm, TPU pods and GKE'
    )
    num_processes: int = option(
        1, 'number of processes; only with --parallel.coordinator=HOST:PORT', minimum=1
    )
    process_id: int = option(0, 'number of this process, from 0', minimum=0)
    timeout: int = option(
        300,
        'seconds to wait for the other processes at the start, the end and, from 10 to 100, when '
        'one no longer answers',
        1,
        maximum=10**6,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        count, id = self.num_processes, self.process_id
        address = re.fullmatch(r'.+:\d+', self.coordinator)
        port = int(self.coordinator.rpartition(':')[2]) if address else 1
        if self.coordinator not in ('', 'auto') and not (address and 0 < port < 2**16):
            raise UsageError(f'--parallel.coordinator={self.coordinator} is not HOST:PORT or auto')
        if (count, id) != (1, 0) and not address:
            raise UsageError(
                '--parallel.num_processes and --parallel.process_id need '
                '--parallel.coordinator=HOST:PORT; with auto, leave them out'
            )
        if id >= count:
            raise UsageError(
                f'--parallel.process_id={id} must be less than --parallel.num_processes={count}'
            )


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    workdir: str = option('', 'folder for checkpoints, logs and report', is_path=True)
    seed: int = option(
        0,
        'seed of weights, clip order, crops, dropout and augmentation',
        minimum=0,
        maximum=2**31 - 1,
    )
    init_from: str = option(
        '',
        "folder of another run: start from its best checkpoint's weights and input statistics; "
        'the output layers start anew if the labels differ',
        is_path=True,
    )
    allow_changed_data: bool = option(
        False, 'resume although the training data changed since the run began; the report says so'
    )
    profile: int = option(0, 'trace this many steps into the workdir', minimum=0)
    baselines: bool = option(
        True,
        'after training, score an SVM on statistics and the majority class on the same test clips',
    )
    data: DataConfig = section(DataConfig)
    model: ModelConfig = section(ModelConfig)
    train: TrainConfig = section(TrainConfig)
    augment: AugmentConfig = section(AugmentConfig)
    parallel: ParallelConfig = section(ParallelConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        storage.check_local(self.workdir, '--workdir')
        storage.check_local(self.init_from, '--init_from')
        self.model.check_frames(self.data.frames, 'data.frames')


@dataclasses.dataclass(frozen=True)
class DataFlags(DataConfig):
    """The data flags of the train command."""

    seconds: float = option(
        0.0,
        'seconds per segment, instead of --data.frames; 0 = as --data.frames says',
        minimum=0,
        instead_of='frames',
    )


@dataclasses.dataclass(frozen=True)
class TrainFlags(Config):
    """The flags of the train command: a config that leaves some choices to the dataset."""

    data: DataFlags = section(DataFlags, default=DataFlags(split=''))

    def __post_init__(self) -> None:
        if self.data.seconds:  # any number may stand for the frames until the dataset is known
            data = dataclasses.replace(self.data, frames=MAX_FRAMES)
            object.__setattr__(self, 'data', data)
        super().__post_init__()

    def config(self) -> Config:
        """The config; its split is '' if none was given, and `data.seconds` is left out."""
        return from_dict(Config, to_dict(self))


def differences(old: Config, new: Config, ignore: Collection[str] = WITHOUT_EFFECT) -> list[str]:
    """Flags of the old config that differ in the new one, as `--seed=1 (not 2)`.

    Args:
      old: a config.
      new: another.
      ignore: fields that may differ; workdir, profile, baselines, allow_changed_data and
        `parallel` always may, and so may the spelling of a folder.
    """
    before, after = to_dict(old), to_dict(new)
    changed = [
        f'--{name}.{key}={before[name][key]} (not {after[name][key]})'
        for name in ('data', 'model', 'train', 'augment')
        for key in before[name]
        if before[name][key] != after[name][key] and key not in ignore
        if key != 'dir' or not storage.same_folder(before[name][key], after[name][key])
    ]
    if old.seed != new.seed:
        changed.append(f'--seed={old.seed} (not {new.seed})')
    if not storage.same_folder(old.init_from, new.init_from):
        changed.append(f'--init_from={old.init_from} (not {new.init_from})')
    return changed
