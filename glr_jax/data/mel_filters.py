"""Mel filters, equal to `librosa.filters.mel`, without librosa's second of imports."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from glr_jax.data.front_end import FrontEnd

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
    bins = np.fft.rfftfreq(front_end.n_fft, 1 / front_end.sample_rate)
    top = _mel(front_end.sample_rate / 2, front_end.htk)
    edges = _hertz(np.linspace(0, top, front_end.n_mels + 2), front_end.htk)
    filters = np.zeros((front_end.n_mels, len(bins)), np.float32)
    for band, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        slopes = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
        filters[band] = np.maximum(0, slopes) * (2 / (high - low))
    return filters


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


def _mel(hertz: float, htk: bool) -> float:
    """Mel of a frequency: Eq. 2, or Slaney's scale, linear to 1 kHz and logarithmic above."""
    if htk:
        return 2595 * np.log10(1 + hertz / 700)
    if hertz < 1000:
        return 3 * hertz / 200
    return 15 + 27 * np.log(hertz / 1000) / np.log(6.4)


def _hertz(mel: Float[np.ndarray, ' mels'], htk: bool) -> Float[np.ndarray, ' mels']:
    """The inverse of `_mel`."""
    if htk:
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, 200 * mel / 3, 1000 * 6.4 ** ((mel - 15) / 27))
