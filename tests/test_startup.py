"""The programs of a command are compiled once a machine, not once a start."""

import os
import subprocess
import sys
from pathlib import Path

TRAIN_STEP = """
import numpy as np
import optax
from glr_jax import compiled, parallel, programs
from glr_jax.batches import Batch
from glr_jax.config import ModelConfig
from glr_jax.model import make_classifier

compiled.keep()
mesh = parallel.make_mesh()
classifier = make_classifier(ModelConfig(kernels=(64, 64), hidden=8), n_mels=6, num_labels=3, seed=0)
program = programs.make_train_step(classifier, optax.adam(0.1), seed=0)
step = parallel.on_every_device(program, mesh, result='replicated')
state = parallel.replicate(programs.init_state(classifier, optax.adam(0.1)), mesh)
mel = np.arange(2 * 64 * 6, dtype=np.uint8).reshape(2, 64, 6)
print(float(step(state, Batch(mel, np.eye(3, dtype=np.float32)[:2], np.arange(2))).totals.loss))
"""
SMALL = """
import jax
from glr_jax import compiled

compiled.keep()
print(jax.jit(lambda x: 2 * x)(2.0))
"""


def start(program: str, **environment: str) -> str:
    """What a start of the program says on stdout; it has to be silent on stderr."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(('JAX_', 'XDG_'))}
    done = subprocess.run(
        [sys.executable, '-c', program],
        env=kept | {'JAX_PLATFORMS': 'cpu'} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout


def programs_in(folder: Path) -> dict[str, int]:
    """When each entry was written."""
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.name.endswith('-cache')}


def test_a_second_start_writes_no_program(tmp_path: Path) -> None:
    first = start(TRAIN_STEP, JAX_COMPILATION_CACHE_DIR=str(tmp_path))
    written = programs_in(tmp_path)
    assert any('train_step' in name for name in written)
    assert start(TRAIN_STEP, JAX_COMPILATION_CACHE_DIR=str(tmp_path)) == first
    assert programs_in(tmp_path) == written


def test_by_default_programs_are_in_the_cache_folder_of_the_user(tmp_path: Path) -> None:
    assert start(SMALL, XDG_CACHE_HOME=str(tmp_path)) == '4.0\n'
    assert programs_in(tmp_path / 'glr_jax')


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    assert start(SMALL, XDG_CACHE_HOME=str(tmp_path / 'file')) == '4.0\n'
