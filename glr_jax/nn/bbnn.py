"""The Bottom-up Broadcast Neural Network (Liu, Feng, Liu, Wang and Liu, 2019, arXiv 1901.08928).

A shallow layer, three broadcast modules, each of which sees the outputs of all before it, and a
transition:

    shallow     3x3 convolution -> norm -> ReLU -> max-pool of 4 in time
    module      1x1 | 1x1, 3x3 | 1x1, 5x5 | 3x3 max-pool, 1x1, beside the module's input
    transition  1x1 convolution -> mean of 2x2 positions -> norm -> ReLU -> mean over frequency

Every convolution has 32 kernels and a bias. In modules and transition, norm and ReLU come before
the convolution. With `--model.kind=cnn`, `--model.readout=mean` and `--model.dropout=0`, the mean
over time, one dense layer and the softmax follow, as in the paper.

Checked against the authors' notebook and its printed layers (github.com/CaifengLiu/
music-genre-classification, GTZAN_2048_1/model/my_model.ipynb): the order of the layers, all sizes,
and 185,642 trained parameters with batch norm, 128 mels and 10 labels. The abstract of the journal
version says 0.18 M. Initial weights are Glorot's, the default of Keras, which the notebook uses.

Different here: the norm is passed in, and batch norm has this project's constants (momentum 0.9,
epsilon 1e-5; in Keras 0.99 and 1e-3). Where 3x3 max-pools meet equal values, these share the
gradient. Only the abstract and the notebook were available, not the full text of the paper.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from glr_jax.nn.conv import conv, max_of_neighbours, max_pool, mean_pool
from glr_jax.nn.norms import Norm

KERNELS = 32
MODULES = 3
BRANCHES = 4
POOL = 4  # frames of the shallow layer's max-pool
MEAN = 2  # positions, along both axes, of the transition's mean

Image = Float[Array, 'batch time mels _']


class BBNN(nnx.Module):
    """Spectrograms to 32 features for every `POOL * MEAN` frames.

    Args:
      norm: the normalisation in every layer.
      rngs: source of the initial weights.
    """

    def __init__(self, *, norm: Norm, rngs: nnx.Rngs):
        self.shallow = Convolution(3, 1, rngs=rngs)
        self.shallow_norm = norm.layer(KERNELS)
        widths = [KERNELS * (1 + BRANCHES * k) for k in range(MODULES + 1)]
        modules = [Broadcast(width, norm=norm, rngs=rngs) for width in widths[:-1]]
        self.broadcasts = nnx.List(modules)
        self.transition = PreActivated(1, widths[-1], norm=norm, rngs=rngs)
        self.norm = norm.layer(KERNELS)

    def __call__(self, x: Image) -> Float[Array, 'batch steps features']:
        """Standardised spectrograms, with one feature, to features over time."""
        summed = self.shallow(x)
        x = jax.nn.relu(max_pool(self.shallow_norm(summed).astype(x.dtype), (POOL, 1)))
        highest = max_of_neighbours(x)
        for broadcast in self.broadcasts:
            added = broadcast(x, highest)
            x = jnp.concatenate([x, added], -1)
            # Features do not mix in a maximum, so each is pooled only once.
            highest = jnp.concatenate([highest, max_of_neighbours(added)], -1)
        x = mean_pool(self.transition(x), (MEAN, MEAN))
        return jax.nn.relu(self.norm(x).astype(x.dtype)).mean(2)


class Broadcast(nnx.Module):
    """One module: four branches of 32 kernels, which read all features before them."""

    def __init__(self, features: int, *, norm: Norm, rngs: nnx.Rngs):
        layer = functools.partial(PreActivated, norm=norm, rngs=rngs)
        self.one = layer(1, features)
        self.before_three, self.three = layer(1, features), layer(3, KERNELS)
        self.before_five, self.five = layer(1, features), layer(5, KERNELS)
        self.after_pool = layer(1, features)

    def __call__(self, x: Image, highest: Image) -> Image:
        """The 128 new features.

        Args:
          x: all features so far.
          highest: their maxima of every 3x3 positions.
        """
        branches = (
            self.one(x),
            self.three(self.before_three(x)),
            self.five(self.before_five(x)),
            self.after_pool(highest),
        )
        return jnp.concatenate(branches, -1)


class PreActivated(nnx.Module):
    """Norm, ReLU, convolution."""

    def __init__(self, taps: int, features: int, *, norm: Norm, rngs: nnx.Rngs):
        self.norm = norm.layer(features)
        self.convolution = Convolution(taps, features, rngs=rngs)

    def __call__(self, x: Image) -> Image:
        """Applies the layer."""
        return self.convolution(jax.nn.relu(self.norm(x).astype(x.dtype)))


class Convolution(nnx.Module):
    """A square convolution with 32 kernels and a bias."""

    def __init__(self, taps: int, features: int, *, rngs: nnx.Rngs):
        draw = nnx.initializers.glorot_uniform()
        self.kernel = nnx.Param(draw(rngs.params(), (taps, taps, features, KERNELS)))
        self.bias = nnx.Param(jnp.zeros(KERNELS))

    def __call__(self, x: Image) -> Image:
        """Convolves, with zeros beyond the edges."""
        kernel = self.kernel[...].astype(x.dtype)
        # On a CPU, XLA takes several times as long for a 1x1 convolution as for this matmul.
        summed = x @ kernel[0, 0] if len(kernel) == 1 else conv(x, kernel)
        return summed + self.bias[...].astype(x.dtype)


def products(frames: int, mels: int) -> int:
    """The multiplications of all convolutions, for one segment."""
    shallow = frames * mels * 9 * KERNELS
    inputs = [KERNELS * (1 + BRANCHES * k) for k in range(MODULES + 1)]
    taps = sum(BRANCHES * width + (9 + 25) * KERNELS for width in inputs[:-1]) + inputs[-1]
    return shallow + frames // POOL * mels * taps * KERNELS
