"""What the train step comes to on TPU slices, compiled without one.

`python -m experiments.tpu_compile`, after `pip install -e '.[tpu]'`
"""

import dataclasses
import os
import re
from typing import Any, Literal

import jax
import numpy as np
import optax
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec, use_abstract_mesh

from experiments import hlo
from experiments.common import markdown
from glr_jax import cli, train_step
from glr_jax.cli import status
from glr_jax.config import ModelConfig
from glr_jax.data.batches import Batch
from glr_jax.devices import parallel
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import option, section
from glr_jax.nn.model import make_classifier

USAGE = """
usage: python -m experiments.tpu_compile [--flag=value ...]

Compiles the train step for slices of TPU v5e on a machine that has none, and prints what a device
holds, computes and exchanges in a step, as the compiler has it: GLR beside synchronised batch
normalisation. Needs the libtpu package, and a minute or two a line. Nothing is run, so no speed is
measured, and:
  HBM            leaves out what the compiler keeps in on-chip memory;
  GFLOP, best ms count one turn of the recurrence's loop alone; best is the least time in which the
                 chip could do that, were every operation at its limit;
  Mcycles        the compiler's estimates of its fused operations, added up here with every turn of
                 every loop; without all-reduces, copies and what waits for others.
"""
HEADER = ['slice', 'norm', 'clips a step', 'HBM, MiB', 'GFLOP', 'best ms', 'Mcycles']
HEADER += ['all-reduces', 'exchanged, KiB']


@dataclasses.dataclass(frozen=True)
class TpuCompile:
    """What the command line says."""

    slices: tuple[str, ...] = option(('2x2', '4x4', '16x16'), 'of v5e, chips by chips')
    norms: tuple[str, ...] = option(('glr', 'batch_sync'), 'to compare')
    clips: int = option(32, 'of a device in a step', minimum=1)
    accumulate: int = option(1, 'micro-batches of a device in a step', minimum=1)
    frames: int = option(640, 'of a clip', minimum=8)
    labels: int = option(10, 'classes', minimum=2)
    model: ModelConfig = section(ModelConfig)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(TpuCompile, argv, USAGE)
    if study.clips % study.accumulate:
        raise UsageError(f'--clips={study.clips} is no multiple of --accumulate')
    jax.config.update('jax_platforms', 'cpu')
    rows = []
    for shape in study.slices:
        mesh = slice_of_v5e(shape)
        for norm in study.norms:
            status(f'{shape}, {norm}: compiling')
            model = dataclasses.replace(study.model, norm=norm)  # type: ignore[arg-type]
            found = measure(study, model, mesh)
            rows.append([shape, norm, str(study.clips * mesh.size), *found])
    print(markdown(HEADER, rows))


def slice_of_v5e(shape: str) -> Mesh:
    """The devices of a slice that need not be there.

    Raises:
      UserError: there is no libtpu, or no such slice.
    """
    os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')  # there is no TPU's metadata server to ask
    os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')  # none to be alone with, either
    try:
        topology = topologies.get_topology_desc(platform='tpu', topology_name=f'v5e:{shape}')
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--slices={shape}: {reason} (libtpu comes with: pip install -e '.[tpu]')"
        ) from None
    return parallel.make_mesh(topology.devices)


def measure(study: TpuCompile, model: ModelConfig, mesh: Mesh) -> list[str]:
    """The cells of a line, from HBM on: what one device does in a step."""
    compiled = compile_step(study, model, mesh)
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    found = hlo.total(compiled.as_text(), counted)
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    held += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return [
        f'{held / 2**20:.0f}',
        f'{cost["flops"] / 1e9:.1f}',
        f'{cost["optimal_seconds"] * 1e3:.2f}',
        f'{found["cycles"] / 1e6:.2f}',
        f'{found["all_reduces"]}',
        f'{found["bytes"] / 2**10:.1f}',
    ]


def compile_step(
    study: TpuCompile, model: ModelConfig, mesh: Mesh, platform: Literal['tpu', 'cuda'] = 'tpu'
) -> Any:
    """The real train step, compiled for a mesh."""
    classifier = make_classifier(model, n_mels=128, num_labels=study.labels, seed=0)
    optimizer = optax.adam(1e-3)
    program = train_step.make_train_step(classifier, optimizer, 0, study.accumulate)
    clips = study.clips * mesh.size
    batch = Batch(
        mel=np.zeros((clips, study.frames, 128), np.uint8),
        target=np.zeros((clips, study.labels), np.float32),
        place=np.zeros(clips, np.int32),
    )
    placed = lambda tree, spec: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec)), tree
    )
    state = placed(train_step.init_state(classifier, optimizer), PartitionSpec())
    step = parallel.shard_mapped(program, mesh, 'replicated')
    with use_abstract_mesh(mesh.abstract_mesh):  # by which a kernel knows which GPU it is for
        traced = step.trace(state, placed(batch, PartitionSpec(parallel.AXIS)))
        return traced.lower(lowering_platforms=(platform,)).compile()


def counted(it: hlo.Instruction) -> dict[str, int]:
    """Of `hlo.total`: the compiler's estimate of cycles, and what devices exchange."""
    cycles = re.search(r'"estimated_cycles":"(\d+)"', it.line)
    return hlo.exchanged(it) | ({'cycles': int(cycles[1])} if cycles else {})


if __name__ == '__main__':
    cli.execute(main)
