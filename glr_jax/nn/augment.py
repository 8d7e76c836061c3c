"""Random changes of training segments: masks, equaliser, tempo, pitch, crops.

Each case draws all its random numbers from its own key, whichever changes are on. So the rest of
the batch and the number of devices make no difference to a case, and switching one change on leaves
the others as they are.

Time masks and band masks: Park et al., "SpecAugment", 2019, section 2. Scaling the frequency axis:
Jaitly and Hinton, "Vocal tract length perturbation", 2013.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, Key, Num

from glr_jax.config import MAX_MASKS, AugmentConfig

EQUALIZER_TERMS = 4  # cosines over the mel bands


class Draws(NamedTuple):
    """The random numbers of one case: uniform between 0 and 1, or normal.

    Attributes:
      part: uniform; length and first frame of the part that is kept.
      tempo: uniform.
      pitch: uniform.
      time_masks: uniform; width and start of each mask.
      band_masks: the same.
      equalizer: normal; the weights of the cosines.
      level: normal.
    """

    part: Float[Array, '2']
    tempo: Float[Array, '']
    pitch: Float[Array, '']
    time_masks: Float[Array, '2 masks']
    band_masks: Float[Array, '2 masks']
    equalizer: Float[Array, ' terms']
    level: Float[Array, '']


def draw(key: Key[Array, '']) -> Draws:
    """Draws the random numbers of one case."""
    uniform_key, normal_key = jax.random.split(key)
    uniform = jax.random.uniform(uniform_key, (4 + 4 * MAX_MASKS,))
    masks = uniform[4:].reshape(2, 2, MAX_MASKS)
    normal = jax.random.normal(normal_key, (EQUALIZER_TERMS + 1,))
    return Draws(
        part=uniform[:2],
        tempo=uniform[2],
        pitch=uniform[3],
        time_masks=masks[0],
        band_masks=masks[1],
        equalizer=normal[1:],
        level=normal[0],
    )


def augment(
    mel: Num[Array, 'batch time mels'],
    keys: Key[Array, ' batch'],
    mean: Float[Array, ' mels'],
    spread: Float[Array, ''],
    config: AugmentConfig,
) -> Float[Array, 'batch time mels']:
    """Changes every segment of a batch at random.

    Args:
      mel: spectrograms as stored in the dataset, not yet standardised.
      keys: one random key per case.
      mean: the band means of the training clips; masked values become these.
      spread: overall deviation of the training clips, the unit of the equaliser and the level.
      config: which changes, and how strong.
    """
    one = lambda mel, key: change(mel, draw(key), mean, spread, config)
    return jax.vmap(one)(mel.astype(jnp.float32), keys)


def change(
    mel: Float[Array, 'time mels'],
    draws: Draws,
    mean: Float[Array, ' mels'],
    spread: Float[Array, ''],
    config: AugmentConfig,
) -> Float[Array, 'time mels']:
    """Changes one segment as its draws say; the arguments are as in `augment`."""
    time, mels = mel.shape
    part = part_of(draws.part, time, config.shortest)
    if config.stretch:
        mel = stretch(mel, factor_of(draws.tempo, config.stretch), *part)
    elif config.shortest < 1:
        mel = repeat(mel, *part)
    if config.pitch:
        mel = scale_bands(mel, factor_of(draws.pitch, config.pitch))
    if config.equalizer:
        mel = mel + config.equalizer * spread * equalizer_curve(draws.equalizer, mels)
    if config.level:
        mel = mel + config.level * spread * draws.level
    hidden = masked(draws.time_masks[:, : config.time_masks], time, config.time_mask)[:, None]
    hidden |= masked(draws.band_masks[:, : config.band_masks], mels, config.band_mask)
    return jnp.where(hidden, mean, mel)


def factor_of(uniform: Float[Array, '*shape'], largest: float) -> Float[Array, '*shape']:
    """A factor from 1 / (1 + largest) to 1 + largest, uniform on a logarithmic scale."""
    return jnp.exp(math.log1p(largest) * (2 * uniform - 1))


def part_of(
    uniform: Float[Array, '2'], length: int, shortest: float
) -> tuple[Int[Array, ''], Int[Array, '']]:
    """First frame and length of a part that is at least a fraction `shortest` of the whole."""
    at_least = max(1, math.ceil(shortest * length))
    part = at_least + _below(length - at_least + 1, uniform[0])
    return _below(length - part + 1, uniform[1]), part


def masked(uniform: Float[Array, '2 masks'], length: int, largest: float) -> Bool[Array, ' length']:
    """Which positions of an axis are masked; each mask covers at most a fraction `largest`."""
    widths = _below(round(largest * length) + 1, uniform[0])
    starts = _below(length - widths + 1, uniform[1])
    at = jnp.arange(length)[:, None]
    return jnp.any((starts <= at) & (at < starts + widths), -1)


def _below(count: int | Array, uniform: Array) -> Array:
    """Whole numbers from 0 to `count - 1`, equally likely."""
    return jnp.floor(count * uniform).astype(jnp.int32)


def equalizer_curve(weights: Float[Array, ' terms'], mels: int) -> Float[Array, ' mels']:
    """A smooth gain per band: cosines with these weights, from half a wave over the bands upwards.

    Weights of variance 1 give gains whose variance is 1 on average over the bands. Their mean over
    the bands is 0, since --augment.level changes the level of the whole segment.
    """
    phase = jnp.pi * (jnp.arange(mels) + 0.5) / mels
    terms = jnp.cos(jnp.arange(1, len(weights) + 1)[:, None] * phase)
    return math.sqrt(2 / len(weights)) * jnp.sum(weights[:, None] * terms, 0)


def repeat(
    mel: Float[Array, 'time mels'], first: Int[Array, ''], length: Int[Array, '']
) -> Float[Array, 'time mels']:
    """A part of the segment, repeated until it fills the segment."""
    return _take(mel, first + jnp.arange(len(mel)) % length, 0)


def stretch(
    mel: Float[Array, 'time mels'],
    factor: Float[Array, ''],
    first: Int[Array, ''],
    length: Int[Array, ''],
) -> Float[Array, 'time mels']:
    """Plays a part of the segment at another speed, by linear interpolation, to fill the segment.

    Args:
      mel: the segment.
      factor: the speed; where the part ends too early, it begins again.
      first: first frame of the part.
      length: frames in the part.
    """
    position = jnp.arange(len(mel)) * factor % length
    before = position.astype(jnp.int32)
    ends = _take(mel, first + before, 0), _take(mel, first + (before + 1) % length, 0)
    return _between(*ends, (position - before)[:, None])


def scale_bands(
    mel: Float[Array, 'time mels'], factor: Float[Array, '']
) -> Float[Array, 'time mels']:
    """Scales the mel axis by linear interpolation; beyond the last band, that band is repeated.

    Args:
      mel: the segment.
      factor: band `b` is read from band `b * factor`.
    """
    last = mel.shape[1] - 1
    position = jnp.minimum(jnp.arange(last + 1) * factor, last)
    before = position.astype(jnp.int32)
    ends = _take(mel, before, 1), _take(mel, jnp.minimum(before + 1, last), 1)
    return _between(*ends, position - before)


def _take(mel: Array, at: Array, axis: int) -> Array:
    return jnp.take(mel, at, axis, mode='clip')


def _between(before: Array, after: Array, fraction: Array) -> Array:
    return before + fraction * (after - before)
