"""The length of a run's segments: in frames, or in seconds of its dataset."""

import dataclasses
import math
from typing import TypeVar

import numpy as np
from jaxtyping import Int

from glr_jax.config import MAX_FRAMES, Config
from glr_jax.data.dataset import Dataset
from glr_jax.devices.processes import announce
from glr_jax.errors import UsageError, UserError

ConfigT = TypeVar('ConfigT', bound=Config)


def choose_frames(config: ConfigT, dataset: Dataset, seconds: float) -> ConfigT:
    """The config with --data.seconds in frames.

    Args:
      config: of the run.
      dataset: its clips.
      seconds: `--data.seconds`; 0 leaves the frames as they are.

    Raises:
      UsageError: a segment would be too long, or too short for the network.
      UserError: the spectrograms were ready-made, so that the length of a frame is not known.
    """
    rate = dataset.front_end.sample_rate / dataset.front_end.hop_length  # frames per second
    frames = config.data.frames
    if seconds:
        if not dataset.from_audio:
            raise UserError(
                f'--data.seconds={seconds:g}: {dataset.folder} was made from ready-made '
                'spectrograms, whose frames may have any length; give --data.frames'
            )
        if seconds * rate > MAX_FRAMES:
            raise UsageError(
                f'--data.seconds={seconds:g} must be at most {int(MAX_FRAMES / rate)}: a segment '
                f'has at most {MAX_FRAMES:,} frames'
            )
        frames = max(8, round(seconds * rate))
        window, pooled = _window(config), config.model.pooled()[0]
        if frames < window:
            raise UsageError(
                f'--data.seconds={seconds:g} is less than one window of {window / rate:.2f} s; '
                f'give more seconds, or a smaller --model.window than {window}'
            )
        if frames < pooled:
            raise UsageError(
                f'--data.seconds={seconds:g} has only {frames} frames, but pooling joins {pooled} '
                f'to one; give at least {_seconds(pooled, rate)}'
            )
    return dataclasses.replace(config, data=dataclasses.replace(config.data, frames=frames))


def announce_short_clips(
    config: Config, dataset: Dataset, clips: Int[np.ndarray, ' clips']
) -> None:
    """Says so if half of the clips are much shorter than a segment.

    Args:
      config: of the run.
      dataset: where the clips are.
      clips: the training clips.
    """
    rate = dataset.front_end.sample_rate / dataset.front_end.hop_length  # frames per second
    frames, size = config.data.frames, dataset.n_mels * dataset.mel_dtype.itemsize
    usual = int(np.median(dataset.stored_bytes(clips)) // size)
    if usual < 0.6 * frames:
        lasting = lambda count: f' ({count / rate:.1f} s)' if dataset.from_audio else ''
        fitting = max(usual, _fewest(config))
        flag = f'--data.frames={fitting}'
        if dataset.from_audio:
            flag = f'--data.seconds={_seconds(fitting, rate)}'
        announce(
            f'half of the clips have {usual} frames{lasting(usual)} or fewer and are repeated to '
            f'fill a segment of {frames}{lasting(frames)}'
            + (f'; shorter segments are faster: {flag}' if fitting < frames else '')
        )


def _fewest(config: Config) -> int:
    """The fewest frames that a segment may have."""
    return max(8, _window(config), config.model.pooled()[0])


def _window(config: Config) -> int:
    """The frames of a window of statistics; 0 if the network has none."""
    return config.model.window if config.model.has_statistics() else 0


def _seconds(frames: int, rate: float) -> str:
    """Seconds that are at least some frames: rounded up, since fewer may be too few."""
    return f'{math.ceil(100 * frames / rate) / 100:g}'
