"""librosa's mel filters, also without most of their zeros."""

from typing import NamedTuple

import librosa
import numpy as np
from jaxtyping import Float

from glr_jax.data.front_end import FrontEnd

# librosa imports its modules when they are first used: workers should share one import.
PRELOAD = ('librosa.filters',)
_BANDS = 16  # per block: fewer are too little work per product, more multiply too many zeros


class Block(NamedTuple):
    """Neighbouring bands and the bins that they use.

    Attributes:
      bands: which mel bands.
      bins: which bins of the spectrum; the filters are 0 at the others.
      weights: the filters at these bins.
    """

    bands: slice
    bins: slice
    weights: Float[np.ndarray, 'bins bands']


def mel_filters(front_end: FrontEnd) -> Float[np.ndarray, 'mels bins']:
    """Triangles of unit area, equally spaced on the mel scale (Eq. 2-3 of the paper)."""
    return librosa.filters.mel(
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        n_mels=front_end.n_mels,
        htk=front_end.htk,
    )


def in_blocks(filters: Float[np.ndarray, 'mels bins']) -> list[Block]:
    """The filters without most of their zeros: 1/8 of the products at the default front end."""
    found = []
    for start in range(0, len(filters), _BANDS):
        rows = filters[start : start + _BANDS]
        used = np.flatnonzero(rows.any(0))
        if len(used):
            bins = slice(int(used[0]), int(used[-1]) + 1)
            weights = np.ascontiguousarray(rows[:, bins].T)
            found.append(Block(slice(start, start + _BANDS), bins, weights))
    return found
