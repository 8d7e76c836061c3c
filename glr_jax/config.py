"""The config of a run: frozen dataclasses, one flag per field (`--model.norm=glr`).

A config that does not go together cannot be built: every dataclass checks itself.
"""

import dataclasses
import math
import re
from collections.abc import Collection
from typing import Literal

from glr_jax import storage
from glr_jax.errors import UsageError
from glr_jax.fields import check_fields, option, section, to_dict

Kind = Literal['crnn', 'cnn', 'rnn']
NormName = Literal['glr', 'glr_layer', 'glr_step', 'batch', 'batch_sync', 'group', 'none']
Conv = Literal['1d', '2d']
CellName = Literal['simple', 'gru', 'lstm']
Readout = Literal['mean', 'last', 'local', 'max', 'attention', 'moments', 'covariance']
Front = Literal['conv', 'statistics', 'both', 'bbnn']
Recurrence = Literal['auto', 'scan', 'fused']
ClassWeights = Literal['none', 'balanced']
Mapper = Literal['shard_map', 'pmap']
DType = Literal['float32', 'bfloat16']

GROUPS = 8  # of group normalisation
GLR_NORMS = ('glr', 'glr_layer', 'glr_step')  # the three readings of GLR
BBNN_POOLED = (8, 2)  # frames and mel bands that BBNN joins to one position
WINDOW = 64  # frames that the statistics of a window need at least
MAX_MASKS = 20  # time masks, and band masks, in a segment
MAX_FUSED_HIDDEN = 128  # 64 KB of weights, a quarter of the registers of a GPU's multiprocessor
# Flags that do not change results, so that a run may resume with others; all of `parallel` too.
WITHOUT_EFFECT = frozenset({'resident', 'recurrence', 'accumulate', 'steps_per_dispatch'})


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which clips, and how much of each at a time."""

    dir: str = option('', 'dataset folder that data_prep wrote', is_path=True)
    split: str = option('random-1', 'which split: a column of splits.csv')
    frames: int = option(1280, 'frames per segment, in training and evaluation', 8, maximum=10**6)
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
class ModelConfig:
    """The architecture. The paper's is in `experiments/gtzan_paper.flags`."""

    kind: Kind = option('crnn', 'convolutions and recurrence, or one of them')
    front: Front = option(
        'statistics',
        'what comes before the recurrence: conv = convolutions; statistics = statistics of '
        'windows; both = statistics, beside convolutions that are pooled to the same windows; '
        'bbnn = the network of Liu et al. (2019), who use it with --model.kind=cnn',
        before='conv',
    )
    norm: NormName = option(
        'glr',
        'statistics over: glr = each position; glr_layer = the whole layer; glr_step = each time '
        'step; batch = the clips on a device; batch_sync = on all devices; group = groups of '
        'features; none = a bias only',
    )
    pass_level: bool = option(
        False,
        'give each unit the mean and log deviation that GLR removes, with learned weights that '
        'are initially 0',
    )
    conv: Conv = option('1d', 'with convolutions: over time with all mels, or over time and mels')
    kernels: tuple[int, ...] = option(
        (128, 128),
        'kernels in each convolution, with --model.front=conv or both',
        minimum=1,
        maximum=2**16,
    )
    kernel_size: int = option(5, 'kernel size along each axis', minimum=1, maximum=999)
    pool: tuple[int, ...] = option(
        (2,), 'max-pool size after each convolution, or one size for all', minimum=1
    )
    pool_bands: tuple[int, ...] = option(
        (0,),
        'with --model.conv=2d, max-pool size over the mels, if not that over time; 0 = the same',
        minimum=0,
    )
    merge_bands: int = option(
        1,
        'with --model.conv=2d or --model.front=bbnn, average this many neighbouring mel bands '
        'before the convolutions; 1 = off',
        minimum=1,
    )
    window: int = option(
        WINDOW, 'frames per window, with --model.front=statistics or both', minimum=WINDOW
    )
    window_hop: int = option(
        64,
        'frames from one window to the next, with --model.front=statistics or both',
        minimum=1,
        before=32,
    )
    projection: int = option(
        48,
        'units that each of the six groups of statistics is projected to, and with '
        '--model.front=both the pooled convolutions',
        minimum=1,
        maximum=2**16,
    )
    segment_projection: int = option(
        128,
        'with --model.front=statistics or both, units that each group of statistics of the whole '
        'segment is projected to, for a second output: both outputs are trained, and their '
        'probabilities averaged; 0 = off',
        minimum=0,
        maximum=2**16,
        before=0,
    )
    statistics_dropout: float = option(
        0.5,
        'dropout rate of the statistics themselves, the same ones in all windows of a segment',
        minimum=0,
        below=1,
        before=0.0,
    )
    cell: CellName = option('gru', 'recurrent cell')
    hidden: int = option(64, 'units in the recurrent layer', 1, maximum=2**16)
    bidirectional: bool = option(
        True, 'add a second recurrent layer that runs backwards', before=False
    )
    readout: Readout = option(
        'moments',
        'what gives the logits: mean = the mean state; last = the last state; local = the mean of '
        'the outputs per step (Eq. 6); max = the maximum over time of the states; attention = the '
        'mean state, weighted by a learned score; moments = mean and standard deviation over time '
        'of the states and of the inputs of the recurrence; covariance = moments, and the '
        'covariance over time of a learned projection of both',
    )
    dropout: float = option(0.5, 'dropout rate before the output layer', minimum=0, below=1)
    front_dropout: float = option(
        0.5, 'dropout rate after the convolutions or statistics', minimum=0, below=1, before=0.0
    )
    dtype: DType = option(
        'float32', 'compute layers in this type; parameters, statistics and loss stay float32'
    )
    recurrence: Recurrence = option(
        'auto',
        'scan = step by step; fused = one GPU kernel for all steps (GLR, simple cell, at most '
        f'{MAX_FUSED_HIDDEN} units); auto = fused on a GPU where possible. Results are the same',
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.pools()) != len(self.kernels):
            raise UsageError(
                f'--model.pool has {len(self.pool)} sizes for {len(self.kernels)} convolutions '
                '(--model.kernels); give one size, or one per convolution'
            )
        if len(self.pool_bands) not in (1, len(self.kernels)):
            raise UsageError(
                f'--model.pool_bands has {len(self.pool_bands)} sizes for {len(self.kernels)} '
                'convolutions (--model.kernels); give one size, or one per convolution'
            )
        if any(self.pool_bands) and self.conv != '2d':
            raise UsageError(f'--model.pool_bands needs --model.conv=2d, not {self.conv}')
        if self.merge_bands > 1 and not self.has_images():
            raise UsageError(
                '--model.merge_bands needs 2-D convolutions: --model.front=conv or both with '
                '--model.conv=2d, or --model.front=bbnn'
            )
        unused = (
            () if self.front in ('conv', 'both') else ('conv', 'kernels', 'kernel_size', 'pool')
        )
        for name in unused:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise UsageError(
                    f'--model.{name} needs --model.front=conv or both, not {self.front}'
                )
        if self.kind == 'rnn' and self.front != 'conv':
            raise UsageError(
                f'--model.front={self.front} needs --model.kind=crnn or cnn, not rnn; an RNN on '
                'mel bands has --model.front=conv'
            )
        if self.pass_level and self.norm not in GLR_NORMS:
            raise UsageError(
                f'--model.pass_level needs --model.norm={", ".join(GLR_NORMS[:-1])} or '
                f'{GLR_NORMS[-1]}, not {self.norm}'
            )
        frames, _ = self.pooled()
        if self.front == 'both' and self.window < frames:
            raise UsageError(
                f'--model.window={self.window} is less than the {frames} frames that --model.pool '
                'joins to one; use a longer window or smaller pools'
            )
        projections = (self.projection, self.segment_projection) if self.has_statistics() else ()
        kernels = self.kernels if self.front in ('conv', 'both') else ()
        uneven = [n for n in (*kernels, *projections, self.hidden) if n % GROUPS]
        if self.norm == 'group' and uneven:
            raise UsageError(
                f'--model.norm=group needs a multiple of {GROUPS} units in each layer, '
                f'not {uneven[0]} (--model.kernels, --model.projection, --model.hidden)'
            )
        if self.recurrence == 'fused' and self.kind != 'cnn' and not self.fusible():
            raise UsageError(
                f'--model.recurrence=fused needs --model.cell=simple, --model.norm={GLR_NORMS[0]}, '
                f'{GLR_NORMS[1]} or {GLR_NORMS[2]} without --model.pass_level, and --model.hidden '
                f'of at most {MAX_FUSED_HIDDEN}; use auto'
            )

    def has_statistics(self) -> bool:
        """Whether statistics of windows are part of the front end."""
        return self.front in ('statistics', 'both')

    def has_images(self) -> bool:
        """Whether convolutions over time and mel bands are part of the front end."""
        return self.front == 'bbnn' or (self.conv == '2d' and bool(self.conv_layers()))

    def conv_layers(self) -> list[tuple[int, int]]:
        """(kernels, pool size) of each convolution; there may be none."""
        if self.kind == 'rnn' or self.front in ('statistics', 'bbnn'):
            return []
        return list(zip(self.kernels, self.pools(), strict=True))

    def band_pools(self) -> list[int]:
        """The pool size over mel bands of each of `conv_layers`, if these are 2-D."""
        own = self.pool_bands * len(self.kernels) if len(self.pool_bands) == 1 else self.pool_bands
        pairs = zip(own, self.conv_layers(), strict=False)  # there may be no layers
        return [size or pool for size, (_, pool) in pairs]

    def pooled(self) -> tuple[int, int]:
        """How many frames, and how many mel bands, pooling joins to one position."""
        if self.front == 'bbnn':
            frames, bands = BBNN_POOLED
            return frames, bands * self.merge_bands
        bands = math.prod(self.band_pools()) * self.merge_bands if self.conv == '2d' else 1
        return math.prod(pool for _, pool in self.conv_layers()), bands

    def pools(self) -> tuple[int, ...]:
        """The pool size of each of `kernels`."""
        return self.pool * len(self.kernels) if len(self.pool) == 1 else self.pool

    def fusible(self) -> bool:
        """Whether there is one kernel for the whole recurrence."""
        small = self.hidden <= MAX_FUSED_HIDDEN
        plain = self.norm in GLR_NORMS and not self.pass_level
        return small and self.cell == 'simple' and plain

    def check_frames(self, frames: int, flag: str) -> None:
        """Raises `UsageError` if segments of `frames` frames, set by `flag`, are too short."""
        if self.has_statistics() and frames < self.window:
            raise UsageError(f'--{flag}={frames} is less than --model.window={self.window}')
        pooled, _ = self.pooled()
        if frames < pooled:
            cause = '--model.front=bbnn' if self.front == 'bbnn' else '--model.pool'
            raise UsageError(
                f'--{flag}={frames} is too short: {cause} reduces the frames {pooled}-fold'
            )

    def check_bands(self, n_mels: int) -> None:
        """Raises `UsageError` if pooling leaves nothing of `n_mels` mel bands."""
        _, pooled = self.pooled()
        if n_mels < pooled:
            cause = '--model.front=bbnn' if self.front == 'bbnn' else '--model.pool'
            raise UsageError(
                f'{cause} reduces the mel bands {pooled}-fold, but there are only {n_mels}'
            )


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
        'clips have its label',
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
        300, 'seconds to wait for the other processes at the start and the end', 1, maximum=10**6
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
