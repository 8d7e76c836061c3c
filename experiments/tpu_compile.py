"""What the train step costs on TPU slices, according to the compiler; no TPU is needed.

`python -m experiments.tpu_compile`, after `pip install -e '.[tpu]'`
"""

import dataclasses

from experiments import common, paper
from glr_jax import cli
from glr_jax.errors import UsageError
from glr_jax.fields import check_fields, option, section
from glr_jax.nn.config import ModelConfig, NormName

USAGE = """
usage: python -m experiments.tpu_compile [--flag=value ...]

Compiles the train step for slices of TPU v5e on a machine without a TPU, and prints what each
device holds, computes and exchanges per step, according to the compiler: GLR beside synchronised
batch norm. Needs the libtpu package, and a minute or two per row. Nothing is run, so no speed is
measured. About the columns:
  HBM             excludes what the compiler keeps in on-chip memory
  GFLOP, best ms  count one iteration of the recurrence's loop only; best is the shortest time in
                  which the chip could do that, with every operation at its limit
  Mcycles         the compiler's estimates for its fused operations, summed over all iterations of
                  all loops; all-reduces, copies and waiting are excluded
"""
HEADER = ['slice', 'norm', 'clips per step', 'HBM, MiB', 'GFLOP', 'best ms', 'Mcycles']
HEADER += ['all-reduces', 'exchanged, KiB']
TAKEN = {'model.norm': '--norms'}


@dataclasses.dataclass(frozen=True)
class TpuCompile:
    """The flags."""

    slices: tuple[str, ...] = option(('2x2', '4x4', '16x16'), 'slices of TPU v5e, in chips')
    norms: tuple[NormName, ...] = option(
        ('glr', 'batch_sync'), 'norms to compare, see --model.norm'
    )
    clips: int = option(32, 'clips per device and step', minimum=1)
    accumulate: int = option(1, 'micro-batches per device and step', minimum=1)
    frames: int = option(640, 'frames per clip', minimum=8)
    labels: int = option(10, 'number of classes', minimum=2)
    model: ModelConfig = section(ModelConfig, default=paper.MODEL)

    def __post_init__(self) -> None:
        check_fields(self)
        self.model.check_frames(self.frames, 'frames')
        self.model.check_bands(common.N_MELS)
        if self.clips % self.accumulate:
            raise UsageError(
                f'--clips={self.clips} is not a multiple of --accumulate={self.accumulate}'
            )


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(TpuCompile, USAGE)

import os
import re
from typing import Any, Literal

import jax
import numpy as np
import optax
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec, use_abstract_mesh

from experiments import hlo
from experiments.tables import markdown
from glr_jax import train_step
from glr_jax.cli import status
from glr_jax.data.batches import Batch
from glr_jax.devices import parallel
from glr_jax.errors import UserError
from glr_jax.nn.model import make_classifier


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(TpuCompile, argv, USAGE)
    cli.refuse(argv, TAKEN)
    jax.config.update('jax_platforms', 'cpu')
    models = [dataclasses.replace(study.model, norm=norm) for norm in study.norms]
    meshes = {shape: slice_of_v5e(shape) for shape in study.slices}
    rows = []
    for shape, mesh in meshes.items():
        for model in models:
            status(f'{shape}, {model.norm}: compiling')
            cells = measure(study, model, mesh)
            rows.append([shape, model.norm, str(study.clips * mesh.size), *cells])
    print(markdown(HEADER, rows))


def slice_of_v5e(shape: str) -> Mesh:
    """The devices of a slice to compile for; they need not exist here.

    Raises:
      UserError: libtpu is missing, or there is no such slice.
    """
    os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')  # no TPU, so no metadata server to ask
    os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')  # no TPU to have exclusively, either
    try:
        topology = topologies.get_topology_desc(platform='tpu', topology_name=f'v5e:{shape}')
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--slices={shape}: {reason} (to install libtpu: pip install -e '.[tpu]')"
        ) from None
    return parallel.make_mesh(topology.devices)


def measure(study: TpuCompile, model: ModelConfig, mesh: Mesh) -> list[str]:
    """The cells of a row from HBM on: one device's share of a step."""
    compiled = compile_step(study, model, mesh)
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    sums = hlo.total(compiled.as_text(), count)
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    held += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return [
        f'{held / 2**20:.0f}',
        f'{cost["flops"] / 1e9:.1f}',
        f'{cost["optimal_seconds"] * 1e3:.2f}',
        f'{sums["cycles"] / 1e6:.2f}',
        f'{sums["all_reduces"]}',
        f'{sums["bytes"] / 2**10:.1f}',
    ]


def compile_step(
    study: TpuCompile, model: ModelConfig, mesh: Mesh, platform: Literal['tpu', 'cuda'] = 'tpu'
) -> Any:
    """Compiles the train step of `glr_jax.train` for a mesh.

    Args:
      study: sizes of the batch.
      model: used instead of `study.model`.
      mesh: the devices.
      platform: of the devices.
    """
    classifier = make_classifier(model, n_mels=common.N_MELS, num_labels=study.labels, seed=0)
    optimizer = optax.adam(1e-3)
    program = train_step.make_train_step(classifier, optimizer, 0, study.accumulate)
    clips = study.clips * mesh.size
    batch = Batch(
        mel=np.zeros((clips, study.frames, common.N_MELS), np.uint8),
        target=np.zeros((clips, study.labels), np.float32),
        place=np.zeros(clips, np.int32),
    )
    placed = lambda tree, spec: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec)), tree
    )
    state = placed(train_step.init_state(classifier, optimizer), PartitionSpec())
    step = parallel.shard_mapped(program, mesh, 'replicated')
    with use_abstract_mesh(mesh.abstract_mesh):  # tells a kernel which GPU it is for
        traced = step.trace(state, placed(batch, PartitionSpec(parallel.AXIS)))
        return traced.lower(lowering_platforms=(platform,)).compile()


def count(it: hlo.Instruction) -> dict[str, int]:
    """For `hlo.total`: the compiler's estimate of cycles, and exchanges between devices."""
    cycles = re.search(r'"estimated_cycles":"(\d+)"', it.line)
    return hlo.exchanged(it) | ({'cycles': int(cycles[1])} if cycles else {})


if __name__ == '__main__':
    cli.execute(main)
