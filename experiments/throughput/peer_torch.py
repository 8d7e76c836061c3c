"""The same architecture in PyTorch, as a peer to be timed beside ours."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from glr_jax.config import ModelConfig

Task = Callable[[], Any]
# torch.compile unrolls the recurrence: of 16 steps it takes two minutes, of 160 more than nine. A
# longer one is left eager, between parts that are compiled.
COMPILED_STEPS = 16


class GLR(nn.Module):
    """GLR over the features of every position: PyTorch calls it layer normalisation."""

    def __init__(self, features: int, axis: int):
        super().__init__()
        self.axis, self.normalise = axis, nn.LayerNorm(features)

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        """Summed inputs to what the non-linearity is given."""
        return self.normalise(a.movedim(self.axis, -1)).movedim(-1, self.axis)


class Recurrent(nn.Module):
    """The simple recurrent layer with GLR inside (Eq. 5)."""

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.inputs = nn.Linear(features, hidden, bias=False)
        self.hidden = nn.Linear(hidden, hidden, bias=False)
        self.normalise = nn.LayerNorm(hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, time, features] to the hidden state at every step."""
        h = x.new_zeros(len(x), self.hidden.out_features)
        states = []
        for summed in self.inputs(x).unbind(1):
            h = torch.tanh(self.normalise(summed + self.hidden(h)))
            states.append(h)
        return torch.stack(states, 1)


class Classifier(nn.Module):
    """The CRNN: convolutions with GLR, ReLU and max-pool, a recurrent layer, mean of the states."""

    def __init__(self, config: ModelConfig, n_mels: int, labels: int):
        super().__init__()
        self.images = config.conv == '2d'
        features, bands, blocks = (1, n_mels, []) if self.images else (n_mels, 1, [])
        layer, pooling = (nn.Conv2d, nn.MaxPool2d) if self.images else (nn.Conv1d, nn.MaxPool1d)
        for kernels, pool in config.conv_layers():
            conv = layer(features, kernels, config.kernel_size, padding='same', bias=False)
            blocks += [conv, GLR(kernels, axis=1), nn.ReLU(), pooling(pool)]
            features, bands = kernels, bands // pool if self.images else 1
        self.blocks = nn.Sequential(*blocks)
        self.recurrent = Recurrent(features * bands, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden, labels)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """[batch, time, mels] to logits."""
        x = mel.float() / 128 - 1
        x = self.blocks(x[:, None] if self.images else x.transpose(1, 2))
        x = x.movedim(1, -1).flatten(2)
        return self.output(self.dropout(self.recurrent(x).mean(1)))


def tasks(
    config: ModelConfig, batch_size: int, frames: int, n_mels: int, labels: int, *, compiled: bool
) -> dict[str, Task]:
    """What to time, by the names of `experiments.throughput`; all of it in float32.

    Args:
      config: a CRNN of simple cells.
      batch_size: clips.
      frames: of a clip.
      n_mels: bands.
      labels: classes.
      compiled: by `torch.compile`, the recurrence where it is no longer than COMPILED_STEPS; or
        eager.
    """
    torch.manual_seed(0)
    torch._dynamo.config.recompile_limit = 64  # it compiles anew for each number of threads
    as_it_is: Callable = lambda module: module
    prepare = torch.compile if compiled else as_it_is
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    rng = np.random.default_rng(0)
    mel = torch.from_numpy(rng.integers(0, 256, (batch_size, frames, n_mels), np.uint8)).to(device)
    target = torch.from_numpy(rng.dirichlet(np.ones(labels), batch_size)).float().to(device)
    model = Classifier(config, n_mels, labels).to(device)
    conv = model.blocks[4] if len(config.kernels) > 1 else model.blocks[0]
    if config.conv == '2d':
        model = model.to(memory_format=torch.channels_last)  # the faster of the two
    steps, optimizer = (
        frames // math.prod(config.pools()),
        torch.optim.Adam(model.parameters(), 1e-3),
    )
    is_short = steps <= COMPILED_STEPS
    network = prepare(model) if is_short else model
    if not is_short:
        model.blocks = prepare(model.blocks)

    def train_step() -> None:
        model.train()
        optimizer.zero_grad()
        functional.cross_entropy(network(mel), target).backward()
        optimizer.step()

    def inference() -> torch.Tensor:
        model.eval()
        with torch.inference_mode():
            return functional.softmax(network(mel), -1)

    pool = config.pools()[0] if len(config.kernels) > 1 else 1
    positions = [frames // pool, n_mels // pool] if model.images else [frames // pool]
    into_conv = torch.randn(batch_size, conv.in_channels, *positions, device=device)
    into_recurrent = torch.randn(
        batch_size, steps, model.recurrent.inputs.in_features, device=device
    )
    return {
        'train step': _synchronised(train_step),
        'inference': _synchronised(inference),
        'convolution': _synchronised(_gradients(prepare(conv), conv, into_conv)),
        'recurrence': _synchronised(
            _gradients(
                (prepare if is_short else as_it_is)(model.recurrent),
                model.recurrent,
                into_recurrent,
            )
        ),
    }


def with_threads(task: Task, count: int) -> Task:
    """The task on so many threads of the CPU."""

    def run() -> None:
        torch.set_num_threads(count)
        task()

    return run


def _gradients(function: Callable, module: nn.Module, x: torch.Tensor) -> Task:
    """Forward, and the gradients of input and weights."""
    x = x.requires_grad_()
    weights: Sequence = [x, *module.parameters()]
    return lambda: torch.autograd.grad(function(x).square().sum(), weights)


def _synchronised(task: Task) -> Task:
    def run() -> None:
        task()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run
