import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from glr_jax.nn import cost
from glr_jax.nn.model import make_classifier
from tests.conftest import model_config

# Convolution: taps x features x kernels per position. Recurrence: U and W per step.
CONV_1D = 640 * 5 * 128 * 128 + 320 * 5 * 128 * 128
CONV_2D = 640 * 128 * 25 * 1 * 128 + 320 * 64 * 25 * 128 * 128


@pytest.mark.parametrize(
    ('changes', 'parameters', 'products'),
    [
        (
            {},
            2 * (5 * 128 * 128 + 256) + 128 * 96 + 96 * 96 + 2 * 96 + 96 * 10 + 10,
            CONV_1D + 160 * (128 + 96) * 96 + 96 * 10,
        ),
        ({'kind': 'cnn'}, 2 * (5 * 128 * 128 + 256) + 128 * 10 + 10, CONV_1D + 128 * 10),
        (
            {'kind': 'rnn'},
            128 * 96 + 96 * 96 + 2 * 96 + 96 * 10 + 10,
            640 * (128 + 96) * 96 + 96 * 10,
        ),
        (
            {'conv': '2d'},
            26 * 128 + 128
            + (25 * 128 * 128 + 256)
            + (32 * 128 * 96 + 96 * 96 + 2 * 96 + 96 * 10 + 10),
            CONV_2D + 160 * (32 * 128 + 96) * 96 + 96 * 10,
        ),
        (
            {'cell': 'lstm', 'readout': 'local'},
            2 * (5 * 128 * 128 + 256) + 4 * (128 * 96 + 96 * 96 + 2 * 96) + 96 * 10 + 10,
            CONV_1D + 160 * (128 + 96) * 4 * 96 + 160 * 96 * 10,
        ),
        (
            {'kernels': (32, 64, 64), 'pool': (1, 2, 4), 'kernel_size': 3, 'cell': 'gru'},
            3 * (128 * 32 + 32 * 64 + 64 * 64) + 2 * (32 + 64 + 64)
            + 3 * (64 * 96 + 96 * 96 + 2 * 96) + 96 * 10 + 10,
            640 * 3 * (128 * 32 + 32 * 64) + 320 * 3 * 64 * 64
            + 80 * (64 + 96) * 3 * 96 + 96 * 10,
        ),
        (  # 2,064 statistics in six groups; 19 windows
            {'front': 'statistics', 'cell': 'gru', 'hidden': 64, 'bidirectional': True,
             'readout': 'moments'},
            2064 * 48 + 6 * 2 * 48 + 2 * 3 * (288 * 64 + 64 * 64 + 2 * 64)
            + 2 * (128 + 288) * 10 + 10,
            19 * (2064 * 48 + 2 * (288 + 64) * 3 * 64) + 2 * (128 + 288) * 10,
        ),
        (
            {'front': 'statistics', 'kind': 'cnn', 'readout': 'moments', 'projection': 16},
            2064 * 16 + 6 * 2 * 16 + 2 * 96 * 10 + 10,
            19 * 2064 * 16 + 2 * 96 * 10,
        ),
        (
            {'front': 'statistics', 'window': 100, 'window_hop': 30, 'readout': 'local'},
            2064 * 48 + 6 * 2 * 48 + (288 + 96 + 2) * 96 + 96 * 10 + 10,
            19 * (2064 * 48 + (288 + 96) * 96 + 96 * 10),
        ),
        (  # 96 states and 128 features; the projection has 16 units and no bias
            {'readout': 'covariance'},
            2 * (5 * 128 * 128 + 256) + (128 + 96 + 2) * 96
            + 224 * 16 + (2 * 224 + 136) * 10 + 10,
            CONV_1D + 160 * (128 + 96) * 96 + 160 * 224 * 16 + (2 * 224 + 136) * 10,
        ),
        (
            {'readout': 'attention', 'pass_level': True},
            2 * (5 * 128 * 128 + 2 * 256) + (128 + 96 + 4) * 96
            + 96 * 32 + 32 + 32 + 96 * 10 + 10,
            CONV_1D + 160 * (128 + 96) * 96 + 160 * (96 * 32 + 32) + 96 * 10,
        ),
        (
            {'conv': '2d', 'pool_bands': (8, 4), 'kind': 'cnn', 'readout': 'max'},
            26 * 128 + 128 + (25 * 128 * 128 + 256) + 4 * 128 * 10 + 10,
            640 * 128 * 25 * 128 + 320 * 16 * 25 * 128 * 128 + 4 * 128 * 10,
        ),
        (
            {'conv': '2d', 'merge_bands': 4, 'kind': 'cnn', 'readout': 'max'},
            26 * 128 + 128 + (25 * 128 * 128 + 256) + 8 * 128 * 10 + 10,
            640 * 32 * 25 * 128 + 320 * 16 * 25 * 128 * 128 + 8 * 128 * 10,
        ),
        (
            {'kind': 'rnn', 'bidirectional': True},
            2 * (128 + 96 + 2) * 96 + 2 * 96 * 10 + 10,
            640 * 2 * (128 + 96) * 96 + 2 * 96 * 10,
        ),
    ],
)  # fmt: skip
def test_parameters_and_flops_equal_counts_by_hand(
    changes: dict, parameters: int, products: int
) -> None:
    config = dataclasses.replace(model_config(), **changes)
    assert cost.parameters(config, n_mels=128, num_labels=10) == parameters
    assert cost.flops(config, n_mels=128, num_labels=10, frames=640) == 2 * products


def test_the_classifier_of_statistics_has_243_914_parameters() -> None:
    flags = {'cell': 'gru', 'hidden': 64, 'bidirectional': True, 'readout': 'moments'}
    config = model_config(front='statistics', **flags)
    assert cost.parameters(config, n_mels=128, num_labels=10) == 243_914


@pytest.mark.parametrize('changes', [{}, {'conv': '2d'}, {'kind': 'cnn'}])
def test_flops_are_close_to_the_compilers_count(changes: dict) -> None:
    config = dataclasses.replace(model_config(kernels=(48, 48)), **changes)
    # 48 kernels, because from 64 on Winograd's algorithm would save some of the multiplications.
    make = lambda: make_classifier(config, n_mels=64, num_labels=10, seed=0)
    graph, state = nnx.split(nnx.eval_shape(make))
    apply = jax.jit(lambda state, mel: nnx.merge(graph, state)(mel))
    lowered = apply.lower(state, jax.ShapeDtypeStruct((1, 128, 64), jnp.uint8))
    counted = lowered.compile().cost_analysis()['flops']
    # The compiler also counts norms, but counts the body of the scan's loop only once.
    assert cost.flops(config, 64, 10, 128) == pytest.approx(counted, rel=0.1)
