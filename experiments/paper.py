"""The paper: its model and training as configs, and its results as fractions.

The configs state every setting that matters, so that they do not follow the defaults of
`glr_jax.config`. `gtzan_paper.flags` has the same settings as flags. The results are those of
Tables 3 to 8 and of the text of section IV-D; None stands for values that the paper gives in
neither.
"""

from collections.abc import Sequence
from typing import Any

from glr_jax.config import AugmentConfig, DataConfig, TrainConfig
from glr_jax.nn.config import ModelConfig

DATA = DataConfig(frames=640, test_crops=1)
MODEL = ModelConfig(
    kind='crnn',
    front='conv',
    norm='glr',
    pass_level=False,
    conv='1d',
    kernels=(128, 128),
    kernel_size=5,
    pool=(2,),
    pool_bands=(0,),
    merge_bands=1,
    cell='simple',
    hidden=96,
    bidirectional=False,
    readout='mean',
    dropout=0.3,
    front_dropout=0.0,
    statistics_dropout=0.0,
    segment_projection=0,
    dtype='float32',
)
TRAIN = TrainConfig(
    epochs=50,
    min_steps=0,
    patience=0,
    time_limit=0.0,
    batch_size=32,
    learning_rate=1e-3,
    schedule='cosine',
    warmup=0.0,
    weight_decay=0.0,
    average=0.0,
    label_smoothing=0.0,
    mixup=0.4,
    class_weights='none',
    sampler='shuffled',
)
AUGMENT = AugmentConfig(
    time_masks=0, band_masks=0, equalizer=0.0, level=0.0, stretch=0.0, pitch=0.0, shortest=1.0
)

# Table 4 (GTZAN) and Table 5 (FMA): accuracy of the baselines in iterations 1, 2 and 3.
# Table 6: accuracy of the proposed model; section IV-D gives its best iteration and the mean.
ACCURACY: dict[str, dict[str, tuple[float | None, ...]]] = {
    'GTZAN': {
        'cnn': (0.7209, 0.8859, 0.8301),
        'rnn': (0.6940, 0.7653, 0.7196),
        'cnn-rnn': (0.8239, 0.8000, 0.8871),
        'proposed': (0.9012, None, None),
    },
    'FMA': {
        'cnn': (0.5940, 0.4423, 0.5420),
        'rnn': (0.6134, 0.5150, 0.6428),
        'cnn-rnn': (0.6823, 0.5744, 0.7323),
        'proposed': (None, None, 0.7207),
    },
}
MEAN_OF_PROPOSED = {'GTZAN': 0.8779, 'FMA': 0.6887}

# Table 7: accuracy of models in the literature.
LITERATURE: dict[str, dict[str, float]] = {
    'GTZAN': {
        'Nanni et al. [1]': 0.8610,
        'Zlatintsi et al. [14]': 0.8441,
        'Dong [54]': 0.7000,
        'Jakubec et al. [5]': 0.6970,
        'Tang et al. [56]': 0.5000,
    },
    'FMA': {'Guo et al. [53]': 0.6807, 'Chen et al. [55]': 0.6523, 'Huang et al. [4]': 0.4430},
}

# Table 8: precision, recall and F1 of the proposed model on GTZAN in iterations 1, 2 and 3.
# Table 9 is the same for FMA; its values are not in the text.
PRECISION_RECALL_F1: dict[str, tuple[tuple[float, float, float], ...]] = {
    'GTZAN': ((0.89, 0.86, 0.87), (0.92, 0.87, 0.89), (0.86, 0.86, 0.86)),
}

# Table 3: the candidates for each parameter, and the value chosen.
CANDIDATES: dict[str, tuple[Any, ...]] = {
    'layers': (1, 2, 3, 4),
    'kernel_size': (3, 5, 7, 9),
    'kernels': (32, 64, 128, 256),
    'hidden': (64, 96, 128, 256),
    'epochs': (20, 30, 40, 50),
    'learning_rate': (0.1, 0.01, 0.001, 0.0001),
}
OPTIMUM: dict[str, Any] = {
    'layers': 2,
    'kernel_size': 5,
    'kernels': 128,
    'hidden': 96,
    'epochs': 50,
    'learning_rate': 0.001,
}

_GTZAN = {'blues', 'classical', 'country', 'disco', 'jazz', 'metal', 'pop', 'reggae', 'rock'}
_FMA = {'electronic', 'experimental', 'folk', 'instrumental', 'international', 'pop', 'rock'}


def dataset_of(labels: Sequence[str]) -> str | None:
    """The dataset of the paper that has these labels, however hip-hop is spelt; None: neither."""
    names = {label.lower().replace('-', '').replace(' ', '') for label in labels} - {'hiphop'}
    return {frozenset(_GTZAN): 'GTZAN', frozenset(_FMA): 'FMA'}.get(frozenset(names))
