"""How many kernels a GPU starts for the train step, by the compiler's account; no GPU is needed.

`python -m experiments.gpu_compile`, after `pip install -e '.[cuda]'`
"""

import dataclasses
import sys

from experiments import common, paper
from glr_jax import cli
from glr_jax.fields import check_fields, option, section
from glr_jax.nn.config import DType, ModelConfig, Recurrence

USAGE = """
usage: python -m experiments.gpu_compile [--flag=value ...]

Compiles the train step for an H100 on a machine without a GPU, with each type and each
implementation of the recurrence. Prints how many kernels and copies the GPU starts per step, and
how much memory the step needs, according to the compiler. Needs jax 0.12 with its CUDA plugin.
Nothing is run, so no speed is measured. With --triton=false, the fused recurrence compiles as it
will when Pallas' Triton backend is gone from JAX.
"""
HEADER = ['type', 'recurrence', 'kernels per step', 'temporary memory, MiB']
TAKEN = {'model.dtype': '--dtypes', 'model.recurrence': '--recurrences'}
# From XLA's gpu_specs/h100_sxm.txtpb.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84978434048
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
TRITON = 'jax.experimental.pallas.triton'
# Instructions of a compiled program that start nothing, besides the ends of asynchronous ones.
FREE = (
    'parameter constant tuple get-tuple-element bitcast after-all partition-id replica-id '
    'async-update'
).split()


@dataclasses.dataclass(frozen=True)
class GpuCompile:
    """The flags."""

    dtypes: tuple[DType, ...] = option(
        ('float32', 'bfloat16'), 'types to compare, see --model.dtype'
    )
    recurrences: tuple[Recurrence, ...] = option(
        ('scan', 'fused'), 'implementations to compare, see --model.recurrence'
    )
    triton: bool = option(True, "use Pallas' Triton backend")
    clips: int = option(32, 'clips per step', minimum=1)
    frames: int = option(640, 'frames per clip', minimum=8)
    model: ModelConfig = section(ModelConfig, default=paper.MODEL)

    def __post_init__(self) -> None:
        check_fields(self)
        self.model.check_frames(self.frames, 'frames')
        self.model.check_bands(common.N_MELS)


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(GpuCompile, USAGE)

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from experiments import hlo
from experiments.tables import markdown
from experiments.tpu_compile import TpuCompile, compile_step
from glr_jax.cli import status
from glr_jax.devices import parallel
from glr_jax.errors import UserError


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(GpuCompile, argv, USAGE)
    cli.refuse(argv, TAKEN)
    jax.config.update('jax_platforms', 'cpu')
    if not study.triton:
        sys.modules[TRITON] = None  # type: ignore[assignment]  # importing it then fails
    models = [
        dataclasses.replace(study.model, dtype=dtype, recurrence=recurrence)
        for dtype in study.dtypes
        for recurrence in study.recurrences
    ]
    mesh, rows = one_h100(), []
    sizes = TpuCompile(clips=study.clips, frames=study.frames, model=study.model)
    for model in models:
        status(f'{model.dtype}, {model.recurrence}: compiling')
        compiled = compile_step(sizes, model, mesh, 'cuda')
        memory = compiled.memory_analysis().temp_size_in_bytes / 2**20
        kernels = hlo.total(compiled.as_text(), count)['started']
        rows.append([model.dtype, model.recurrence, str(kernels), f'{memory:.0f}'])
    print(markdown(HEADER, rows))


def one_h100() -> Mesh:
    """A device to compile for; it need not exist here.

    Raises:
      UserError: the CUDA plugin is missing, or belongs to another version of jax.
    """
    try:
        topology = topologies.get_topology_desc(
            'h100', 'cuda', topology='1x1x1', target_config=H100
        )
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the CUDA compiler was not found: {reason} (to install it: pip install -e '.[cuda]')"
        ) from None
    return parallel.make_mesh(topology.devices)


def count(it: hlo.Instruction) -> dict[str, int]:
    """For `hlo.total`: kernels and copies that the GPU starts."""
    return {} if it.name in FREE or it.name.endswith('-done') else {'started': 1}


if __name__ == '__main__':
    cli.execute(main)
