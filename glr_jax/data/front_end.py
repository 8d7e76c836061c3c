"""How audio becomes a mel spectrogram: flags that a command can check without NumPy."""

import dataclasses
from typing import Literal

from glr_jax.fields import check_fields, option


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """How samples become a mel spectrogram; stored with the dataset and with each checkpoint."""

    sample_rate: int = option(
        22050, 'Hz; every clip is resampled to this rate', minimum=1, maximum=768_000
    )
    n_fft: int = option(2048, 'window length in samples', minimum=2, maximum=2**18)
    hop_length: int = option(512, 'samples from one frame to the next', minimum=1, maximum=2**20)
    n_mels: int = option(128, 'number of mel bands', minimum=1, maximum=2**11)
    htk: bool = option(False, 'use the HTK mel scale, as the paper does (Eq. 2), not Slaney')
    ref: float = option(0.0, "the power at 0 dB; 0 = each clip's own peak", minimum=0)
    top_db: float = option(
        80.0, 'values below -top_db dB are raised to -top_db dB', minimum=1, maximum=400
    )
    mel_dtype: Literal['uint8', 'float32'] = option(
        'uint8', 'store dB in 256 levels from -top_db to 0, or unchanged'
    )

    def __post_init__(self) -> None:
        check_fields(self)
