"""The length of a run's segments: in frames, or in seconds of its dataset."""

import dataclasses

import numpy as np

from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.devices.processes import announce
from glr_jax.errors import UserError


def choose_frames(config: Config, dataset: Dataset, seconds: float) -> Config:
    """The config with --data.seconds in frames; announces clips that are much shorter.

    Args:
      config: of the run.
      dataset: its clips; the split must be one of its splits.
      seconds: `--data.seconds`; 0 leaves the frames as they are.

    Raises:
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
        frames = max(8, round(seconds * rate))
    clips = dataset.members(config.data.split, 'train')
    size = dataset.n_mels * dataset.mel_dtype.itemsize
    usual = int(np.median(dataset.stored_bytes(clips)) // size) if len(clips) else frames
    if usual < 0.6 * frames:
        lasting = lambda count: f' ({count / rate:.1f} s)' if dataset.from_audio else ''
        announce(
            f'half of the clips have {usual} frames{lasting(usual)} or fewer and are repeated to '
            f'fill a segment of {frames}{lasting(frames)}; shorter ones are faster: '
            f'--data.frames={max(8, usual)}'
        )
    return dataclasses.replace(config, data=dataclasses.replace(config.data, frames=frames))
