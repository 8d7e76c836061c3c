"""The rows of the table: clips per second, the machine's limit, PyTorch's best."""

from typing import NamedTuple


class Row(NamedTuple):
    """The measurements of one workload.

    Attributes:
      model: default, 1d or 2d; '' for the input.
      name: of the workload.
      clips: per call.
      gflop: per call; 0 for the input, which copies rather than computes.
      seconds: per call, the median.
      limit: seconds per call at the machine's own rate.
      peers: seconds per call of each variant of PyTorch.
      given_up: the variants of PyTorch that could not be compiled in time.
    """

    model: str
    name: str
    clips: int
    gflop: float
    seconds: float
    limit: float
    peers: dict[str, float]
    given_up: list[str]


class Rates(NamedTuple):
    """The machine's own rates per second: arithmetic, and bytes read and written."""

    gflop: float
    gbyte: float


def head(with_torch: bool) -> str:
    """The names of the columns."""
    text = f'{"":8}{"":16}{"clips/s":>10}{"GFLOP/s":>10}{"limit, clips/s":>16}{"reached":>9}'
    return text + f'{"torch, clips/s":>16}{"ratio":>7}  best of torch' if with_torch else text


def line(row: Row) -> str:
    """A row, with PyTorch's best variant, and how many times as fast JAX is."""
    text = f'{row.model:8}{row.name:16}{row.clips / row.seconds:10,.1f}'
    text += f'{row.gflop / row.seconds:10,.1f}' if row.gflop else f'{"–":>10}'
    text += f'{row.clips / row.limit:16,.1f}{row.limit / row.seconds:9.0%}'
    if row.peers:
        best = min(row.peers, key=lambda who: row.peers[who])
        ratio = row.peers[best] / row.seconds
        text += f'{row.clips / row.peers[best]:16,.1f}{ratio:7.2f}  {best}'
    return text + ''.join(f'; given up: {variant}' for variant in row.given_up)
