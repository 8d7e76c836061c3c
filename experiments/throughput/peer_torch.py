"""The same architecture in PyTorch, as a peer to time beside the JAX one."""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from experiments.throughput import peer_default
from experiments.throughput.shapes import LABELS, Job, inner_shapes
from experiments.timing import Workload
from glr_jax.nn.config import ModelConfig

# torch.compile unrolls the recurrence: for 16 steps it takes two minutes, for 160 more than nine. A
# longer recurrence stays eager, between parts that are compiled.
COMPILED_STEPS = 16


class GLR(nn.Module):
    """GLR over the features of every position, which PyTorch calls layer normalisation."""

    def __init__(self, features: int, axis: int):
        super().__init__()
        self.axis, self.normalise = axis, nn.LayerNorm(features)

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        """Summed inputs to inputs of the non-linearity."""
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

    def __init__(self, config: ModelConfig, n_mels: int, num_labels: int):
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
        self.output = nn.Linear(config.hidden, num_labels)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """[batch, time, mels] to logits."""
        x = mel.float() / 128 - 1
        x = self.blocks(x[:, None] if self.images else x.transpose(1, 2))
        x = x.movedim(1, -1).flatten(2)
        return self.output(self.dropout(self.recurrent(x).mean(1)))


@functools.cache  # compiled once, at the first turn
def workload(job: Job) -> Workload:
    """The workload of the same name in `experiments.throughput.workloads`, in float32.

    Sets the number of threads of this process.

    Args:
      job: what to run. `torch.compile` leaves out a recurrence of more than COMPILED_STEPS steps.
    """
    # torch.compile uses tqdm, whose own lock between processes outlives one that is killed.
    tqdm.set_lock(threading.RLock())
    torch.set_num_threads(job.variant.threads)
    torch.manual_seed(0)
    config, batch_size, frames, n_mels = job.config, job.batch_size, job.frames, job.n_mels
    eager: Callable = lambda module: module
    prepare = torch.compile if job.variant.compiled else eager
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    rng = np.random.default_rng(0)
    mel = torch.from_numpy(rng.integers(0, 256, (batch_size, frames, n_mels), np.uint8)).to(device)
    target = torch.from_numpy(rng.dirichlet(np.ones(LABELS), batch_size)).float().to(device)
    if config.has_statistics():
        return _synchronised(peer_default.workloads(config, mel, target, prepare)[job.name])
    # Any, since PyTorch's annotations lack `memory_format`, and modules that were compiled.
    model: Any = Classifier(config, n_mels, LABELS).to(device)
    conv = model.blocks[-4]
    if config.conv == '2d':
        model = model.to(memory_format=torch.channels_last)  # faster than channels first
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    shapes = inner_shapes(config, frames, n_mels)
    is_short = shapes.steps <= COMPILED_STEPS
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

    conv_input = torch.randn(batch_size, shapes.features, *shapes.positions, device=device)
    recurrent_input = torch.randn(batch_size, shapes.steps, shapes.inputs, device=device)
    recurrent = prepare(model.recurrent) if is_short else model.recurrent
    named = {
        'train step': train_step,
        'inference': inference,
        'convolution': _gradients(prepare(conv), conv, conv_input),
        'recurrence': _gradients(recurrent, model.recurrent, recurrent_input),
    }
    return _synchronised(named[job.name])


def _gradients(function: Callable, module: nn.Module, x: torch.Tensor) -> Workload:
    """The forward pass, and the gradients of input and weights."""
    x = x.requires_grad_()
    weights: Sequence = [x, *module.parameters()]
    return lambda: torch.autograd.grad(function(x).square().sum(), weights)


def _synchronised(workload: Workload) -> Workload:
    def run() -> None:
        workload()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run
