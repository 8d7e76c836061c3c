"""What the train step comes to on a GPU, compiled without one.

`python -m experiments.gpu_compile`, after `pip install -e '.[cuda]'`
"""

import dataclasses

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from experiments import hlo
from experiments.common import markdown
from experiments.tpu_compile import TpuCompile, compile_step
from glr_jax import cli
from glr_jax.cli import status
from glr_jax.config import ModelConfig
from glr_jax.devices import parallel
from glr_jax.errors import UserError
from glr_jax.fields import option, section

USAGE = """
usage: python -m experiments.gpu_compile [--flag=value ...]

Compiles the train step for an H100 on a machine that has none, with each type and each way through
the recurrence, and prints how many kernels and copies a GPU starts in a step and what memory it
needs, as the compiler has it. Needs jax 0.12 with its CUDA plugin. Nothing is run, so no speed is
measured.
"""
HEADER = ['type', 'recurrence', 'kernels a step', 'temporary memory, MiB']
# As in XLA's gpu_specs/h100_sxm.txtpb.
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
# Instructions of a compiled program that start nothing.
FREE = (
    'parameter constant tuple get-tuple-element bitcast after-all partition-id replica-id '
    'all-reduce-done copy-done async-done async-update'
).split()


@dataclasses.dataclass(frozen=True)
class GpuCompile:
    """What the command line says."""

    dtypes: tuple[str, ...] = option(('float32', 'bfloat16'), 'to compare')
    recurrences: tuple[str, ...] = option(('scan', 'fused'), 'to compare')
    clips: int = option(32, 'in a step', minimum=1)
    frames: int = option(640, 'of a clip', minimum=8)
    model: ModelConfig = section(ModelConfig)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(GpuCompile, argv, USAGE)
    jax.config.update('jax_platforms', 'cpu')
    mesh, rows = one_h100(), []
    step = TpuCompile(clips=study.clips, frames=study.frames)
    for dtype in study.dtypes:
        for recurrence in study.recurrences:
            status(f'{dtype}, {recurrence}: compiling')
            ways = {'dtype': dtype, 'recurrence': recurrence}
            model = dataclasses.replace(study.model, **ways)  # type: ignore[arg-type]
            compiled = compile_step(step, model, mesh, 'cuda')
            memory = compiled.memory_analysis().temp_size_in_bytes / 2**20
            kernels = hlo.total(compiled.as_text(), started)['started']
            rows.append([dtype, recurrence, str(kernels), f'{memory:.0f}'])
    print(markdown(HEADER, rows))


def one_h100() -> Mesh:
    """A device that need not be there.

    Raises:
      UserError: there is no CUDA plugin, or one of another jax.
    """
    try:
        topology = topologies.get_topology_desc(
            'h100', 'cuda', topology='1x1x1', target_config=H100
        )
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"no compiler for CUDA: {reason} (it comes with: pip install -e '.[cuda]')"
        ) from None
    return parallel.make_mesh(topology.devices)


def started(it: hlo.Instruction) -> dict[str, int]:
    """Of `hlo.total`: kernels and copies."""
    return {} if it.name in FREE else {'started': 1}


if __name__ == '__main__':
    cli.execute(main)
