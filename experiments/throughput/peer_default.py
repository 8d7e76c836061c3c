"""The default network in PyTorch: statistics of windows and of the segment, a GRU, two outputs.

Its statistics are those of `glr_jax.nn.statistics`, with the same fixed matrices: these products
take half the time of PyTorch's FFT. Windows and segment share the parts that they are made of.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from experiments.timing import Workload
from glr_jax.nn import fixed_matrices as fixed
from glr_jax.nn.config import WINDOW, ModelConfig
from glr_jax.nn.statistics import GROUPS
from glr_jax.nn.statistics_front import CLIP, SPREAD, group_sizes

Groups = dict[str, torch.Tensor]


class Statistics(nn.Module):
    """The six groups of statistics: of each window, and of the segment as its only window."""

    def __init__(self, config: ModelConfig, frames: int):
        super().__init__()
        self.views = ((config.window, config.window_hop), (frames, WINDOW))
        cos, sin = fixed.waves(WINDOW)[:, :, 1:]
        patch = fixed.waves(fixed.PATCH)
        self._keep('dct', fixed.dct(fixed.BANDS, fixed.CEPSTRA))
        self._keep('waves', np.concatenate([cos - cos.mean(0), sin], 1).T)
        self._keep('rates', fixed.means(fixed.RATES).T)
        self._keep('along_bands', fixed.patch_waves())
        self._keep('along_time', np.concatenate([*patch], 1).T)
        self._keep('patch_sums', patch[0].sum(0))
        self._keep('patch_rates', fixed.means(fixed.PATCH_RATES).T)
        self._keep('patch_scales', fixed.scale_means())
        for k, view in enumerate(self.views):
            self._keep(f'parts{k}', fixed.part_means(frames, WINDOW, *view).T)
            self._keep(f'patches{k}', fixed.part_means(frames, fixed.PATCH, *view).T)

    def _keep(self, name: str, matrix: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(matrix, np.float32)))

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> list[Groups]:
        """Spectrograms [batch, frames, mels] to the groups [batch, windows, values] of each view.

        The number of mels is a multiple of 128.
        """
        bands = [x.unflatten(2, (count, -1)).mean(3) for count in (32, 64, 128)]
        cepstra = bands[0] @ self.dct
        spread = torch.sub(*reversed(bands[2].unflatten(2, (16, 8)).aminmax(dim=3)))
        modulation, texture = self.modulation(bands[0]), self.texture(bands[1])
        found = []
        for k, (window, hop) in enumerate(self.views):
            # Frames stay before bands, as in memory.
            cut = lambda x, window=window, hop=hop: x.unfold(1, window, hop).movedim(3, 2)
            mel, of_cepstra, of_spread = cut(x), cut(cepstra), cut(spread)
            low, high = mel.aminmax(dim=2)
            change = mel.diff(dim=2).abs().mean(2)
            deviation = (mel.var(2) + 1e-6).sqrt()
            of_parts = getattr(self, f'parts{k}') @ modulation
            of_patches = getattr(self, f'patches{k}') @ texture
            found.append(
                {
                    'levels': torch.cat([mel.mean(2), deviation, change, high, low], 2),
                    'cepstra': torch.cat([of_cepstra.mean(2), covariance(of_cepstra)], 2),
                    'delta': covariance(of_cepstra.diff(dim=2)),
                    'modulation': of_parts,
                    'texture': of_patches,
                    'contrast': torch.cat([of_spread.mean(2), (of_spread.var(2) + 1e-6).sqrt()], 2),
                }
            )
        return found

    def modulation(self, bands: torch.Tensor) -> torch.Tensor:
        """The spectrum over time of each part: [batch, parts, bands * rates]."""
        parts = bands.transpose(0, 1).unfold(0, WINDOW, WINDOW // 2).permute(3, 1, 0, 2)
        spectrum = self.waves @ parts.flatten(1)
        power = self.rates @ log_magnitude(*spectrum.chunk(2))
        power = power.unflatten(1, parts.shape[1:])  # rates, batch, parts, bands
        return power.permute(1, 2, 3, 0).flatten(2)

    def texture(self, bands: torch.Tensor) -> torch.Tensor:
        """The 2-D spectrum of each patch: [batch, parts, registers * rates * scales]."""
        half = fixed.PATCH // 2
        patches = bands.unfold(1, fixed.PATCH, half).unfold(2, fixed.PATCH, half)
        mean = patches.mean((3, 4))[..., None] * self.patch_sums  # batch, parts, registers, scales
        parts = (bands @ self.along_bands).transpose(0, 1).unfold(0, fixed.PATCH, half)
        parts = parts.permute(3, 1, 0, 2).unflatten(3, (2, -1)).movedim(3, 1)  # time, wave, ...
        spectrum = (self.along_time @ parts.flatten(1)).unflatten(1, parts.shape[1:])
        (cos_cos, cos_sin), (sin_cos, sin_sin) = (each.unbind(1) for each in spectrum.chunk(2))
        cos_cos[:2] -= self.patch_sums[:2, None, None, None] * mean.flatten(2)
        rising = log_magnitude(cos_cos - sin_sin, sin_cos + cos_sin)
        falling = log_magnitude(cos_cos + sin_sin, sin_cos - cos_sin)
        up, down = ((self.patch_rates @ x.flatten(1)) for x in (rising, falling))
        pooled = up.view(-1, rising.shape[3]) @ self.patch_scales[0]
        pooled += down.view(-1, rising.shape[3]) @ self.patch_scales[1]
        pooled = pooled.view(-1, *rising.shape[1:3], fixed.REGISTERS, pooled.shape[1] // 3)
        return pooled.permute(1, 2, 3, 0, 4).flatten(2)


def log_magnitude(real: torch.Tensor, imaginary: torch.Tensor) -> torch.Tensor:
    """log(1 + |real + i imaginary|)."""
    return torch.log1p((real.square() + imaginary.square() + 1e-8).sqrt())


def covariance(x: torch.Tensor) -> torch.Tensor:
    """[..., time, features] to the upper triangle, each with its signed square root."""
    x = x - x.mean(-2, keepdim=True)
    rows, columns = np.triu_indices(x.shape[-1])
    upper = (x.mT @ x / (x.shape[-2] - 1))[..., rows, columns]
    return upper.sign() * ((upper.abs() + 1e-6).sqrt() - 1e-3)


class Front(nn.Module):
    """Standardises the groups, and projects, normalises and activates each."""

    def __init__(self, n_mels: int, window: int, projection: int, rate: float):
        super().__init__()
        sizes = group_sizes(window, n_mels)
        self.rate, self.sizes = rate, [sizes[name] for name in GROUPS]
        self.register_buffer('means', torch.zeros(sum(self.sizes)))
        self.register_buffer('deviations', torch.ones(sum(self.sizes)))
        self.kernels = nn.ModuleList(nn.Linear(n, projection, bias=False) for n in self.sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(projection) for _ in self.sizes)

    def forward(self, groups: Groups) -> torch.Tensor:
        """[batch, windows, features]; all windows of a segment drop the same statistics."""
        x = torch.cat([groups[name] for name in GROUPS], 2)
        x = ((x - self.means) / self.deviations).clamp(-CLIP, CLIP)
        x = x * functional.dropout(torch.ones_like(x[:, :1]), self.rate, self.training)
        parts = zip(x.split(self.sizes, 2), self.kernels, self.norms, strict=True)
        summed = [norm(kernel(part)) for part, kernel, norm in parts]
        return functional.gelu(torch.cat(summed, 2), approximate='tanh')


class BothWays(nn.Module):
    """Two GRUs with GLR inside, forwards and backwards, computed as one batch of two."""

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.inputs = nn.Parameter(torch.randn(2, features, 3 * hidden) / features**0.5)
        orthogonal = [nn.init.orthogonal_(torch.empty(hidden, hidden)) for _ in range(6)]
        self.hidden = nn.Parameter(torch.cat(orthogonal, 1).view(hidden, 2, -1).movedim(1, 0))
        self.gain = nn.Parameter(torch.ones(2, 1, 3, hidden))
        self.bias = nn.Parameter(torch.zeros(2, 1, 3, hidden))

    def normalise(self, summed: torch.Tensor, gates: slice) -> torch.Tensor:
        """GLR over the units of each gate."""
        normal = functional.layer_norm(summed, summed.shape[-1:])
        return normal * self.gain[:, :, gates] + self.bias[:, :, gates]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, time, features] to the states of both directions at every step."""
        units = self.hidden.shape[1]
        both = torch.stack([x, x.flip(1)])
        summed = (both.flatten(1, 2) @ self.inputs).view(2, *x.shape[:2], 3, units)
        of_gates, of_proposal = self.hidden[:, :, : 2 * units], self.hidden[:, :, 2 * units :]
        h = x.new_zeros(2, len(x), units)
        states = []
        for each in summed.unbind(2):
            gates = each[:, :, :2] + (h @ of_gates).unflatten(2, (2, units))
            reset, update = self.normalise(gates, slice(0, 2)).sigmoid().unbind(2)
            proposal = each[:, :, 2:] + ((reset * h) @ of_proposal).unsqueeze(2)
            proposal = self.normalise(proposal, slice(2, 3)).tanh().squeeze(2)
            h = proposal + update * (h - proposal)
            states.append(h)
        forwards, backwards = torch.stack(states, 2)
        return torch.cat([forwards, backwards.flip(1)], 2)


class Classifier(nn.Module):
    """The default network: the logits of its two outputs."""

    def __init__(self, config: ModelConfig, frames: int, n_mels: int, num_labels: int):
        super().__init__()
        self.statistics = Statistics(config, frames)
        self.register_buffer('deviation', torch.ones(n_mels))
        rate, projected = config.statistics_dropout, config.segment_projection
        self.front = Front(n_mels, config.window, config.projection, rate)
        self.segment_front = Front(n_mels, config.window, projected, rate)
        features = len(GROUPS) * config.projection
        self.front_dropout, self.dropout = config.front_dropout, config.dropout
        self.recurrent = BothWays(features, config.hidden)
        self.output = nn.Linear(2 * (2 * config.hidden + features), num_labels)
        self.segment_output = nn.Linear(len(GROUPS) * projected, num_labels)

    def of_statistics(self, mel: torch.Tensor) -> list[Groups]:
        """The statistics of windows and segment of stored spectrograms."""
        return self.statistics(mel * (SPREAD / self.deviation.square().mean().sqrt()))

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """[batch, frames, mels] to [batch, outputs, labels]."""
        drop = lambda x, rate: functional.dropout(x, rate, self.training)
        windows, segment = self.of_statistics(mel)
        features = drop(self.front(windows), self.front_dropout)
        x = torch.cat([self.recurrent(features), features], 2)
        variance, mean = torch.var_mean(x, 1, correction=0)
        read = torch.cat([mean, (variance + 1e-6).sqrt()], 1)
        whole = self.segment_front(segment)[:, 0]
        return torch.stack(
            [
                self.output(drop(read, self.dropout)),
                self.segment_output(drop(whole, self.dropout)),
            ],
            1,
        )


def workloads(
    config: ModelConfig, mel: torch.Tensor, target: torch.Tensor, prepare: Callable
) -> dict[str, Workload]:
    """The train step, inference, and the statistics alone.

    Args:
      config: the default network.
      mel: the batch as stored: [batch, frames, mels].
      target: [batch, labels].
      prepare: compiles a module or function, or returns it as it is.
    """
    _, frames, n_mels = mel.shape
    model = Classifier(config, frames, n_mels, target.shape[1]).to(mel.device)
    network, statistics = prepare(model), prepare(model.of_statistics)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def train_step() -> None:
        model.train()
        optimizer.zero_grad()
        logits = network(mel)
        both = target[:, None].expand_as(logits)  # each output has its own loss
        functional.cross_entropy(logits.flatten(0, 1), both.flatten(0, 1)).backward()
        optimizer.step()

    def inference() -> torch.Tensor:
        model.eval()
        with torch.inference_mode():
            return network(mel).softmax(2).mean(1)

    def of_statistics() -> list[Groups]:
        with torch.inference_mode():
            return statistics(mel)

    return {'train step': train_step, 'inference': inference, 'statistics': of_statistics}
