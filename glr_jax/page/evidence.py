"""What a page shows beyond the scores: the clips behind them and how they were decided."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from glr_jax.data.dataset import Dataset

# The first frame of each segment and the one after its last, and its probabilities, per clip.
OverTime = Callable[[Int[np.ndarray, ' some']], list[tuple[Any, Any]]]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The clips that were scored.

    Attributes:
      dataset: where they are.
      clips: their numbers.
      probabilities: of each label.
      over_time: the probabilities of the segments of some clips.
      parameters: how many the networks have together.
      trained_here: whether this process has trained the network.
    """

    dataset: Dataset
    clips: Int[np.ndarray, ' clips']
    probabilities: Float[np.ndarray, 'clips labels']
    over_time: OverTime
    parameters: int = 0
    trained_here: bool = False

    @property
    def targets(self) -> Int[np.ndarray, ' clips']:
        """The number of each clip's true label, where each has one."""
        return self.dataset.targets[self.clips]

    @property
    def has_label(self) -> Bool[np.ndarray, 'clips labels']:
        """Which labels each clip has."""
        return self.dataset.has_label()[self.clips]

    @property
    def decisions(self) -> Int[np.ndarray, ' clips']:
        """The number of the label that was decided for each clip, where each has one."""
        return self.probabilities.argmax(1)
