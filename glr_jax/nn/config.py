"""The config of the network: one flag per field (`--model.norm=glr`).

A config that does not go together cannot be built.
"""

import dataclasses
import math
from typing import Literal

from glr_jax.errors import UsageError
from glr_jax.fields import check_fields, option

Kind = Literal['crnn', 'cnn', 'rnn']
NormName = Literal['glr', 'glr_layer', 'glr_step', 'batch', 'batch_sync', 'group', 'none']
Conv = Literal['1d', '2d']
CellName = Literal['simple', 'gru', 'lstm']
Readout = Literal['mean', 'last', 'local', 'max', 'attention', 'moments', 'covariance']
Front = Literal['conv', 'statistics', 'both', 'bbnn']
Recurrence = Literal['auto', 'scan', 'fused']
DType = Literal['float32', 'bfloat16']

GROUPS = 8  # of group normalisation
GLR_NORMS = ('glr', 'glr_layer', 'glr_step')  # the three readings of GLR
BBNN_POOLED = (8, 2)  # frames and mel bands that BBNN joins to one position
WINDOW = 64  # frames that the statistics of a window need at least
MAX_FUSED_HIDDEN = 128  # 64 KB of weights, a quarter of the registers of a GPU's multiprocessor


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
        f'{MAX_FUSED_HIDDEN} units); auto = fused on a GPU where possible. Results '
        'differ only by rounding',
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
