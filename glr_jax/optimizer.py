"""The optimizer of a run: Adam or AdamW, and its learning rate at each step."""

from typing import Any

import jax
import optax
from flax import nnx

from glr_jax.config import TrainConfig


def make_optimizer(config: TrainConfig, steps: int) -> optax.GradientTransformation:
    """Adam, or AdamW if there is weight decay; gains and biases do not decay."""
    rate = learning_rate(config, steps)
    if not config.weight_decay:
        return optax.adam(rate)
    return optax.adamw(rate, weight_decay=config.weight_decay, mask=_kernels)


def _kernels(params: nnx.State) -> Any:
    """Which parameters are kernels; by name, as a cell's gain and bias have several axes too."""
    kernel = lambda path: any('kernel' in str(getattr(key, 'key', '')) for key in path)
    return jax.tree_util.tree_map_with_path(lambda path, _: kernel(path), params)


def learning_rate(config: TrainConfig, steps: int) -> optax.Schedule:
    """The learning rate at each step: constant, or half a cosine down to zero at the last.

    During the warm-up it rises linearly from zero.
    """
    warm = min(round(config.warmup * steps), steps - 1)
    rate = config.learning_rate
    match config.schedule:
        case 'constant':
            after = optax.constant_schedule(rate)
        case 'cosine':
            after = optax.cosine_decay_schedule(rate, steps - warm)
    if not warm:
        return after
    return optax.join_schedules([optax.linear_schedule(0, rate, warm), after], [warm])
