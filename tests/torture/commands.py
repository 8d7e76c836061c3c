"""The project's commands in forked children, on a dataset and a network that are tiny.

The parent has imported JAX but started no backend, so that a child costs a second or two.
"""

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import data_prep.__main__ as preparation
from glr_jax import cli, evaluate, flagfiles, report, train
from glr_jax.run import intact
from tests.torture import faults
from tests.torture.faults import Fault
from tests.torture.outcomes import TRACEBACK

# What a child would have to import otherwise.
_PRELOADED = (
    *('librosa', 'numba', 'tensorflow_datasets', 'matplotlib.backends.backend_svg', 'scipy.signal'),
    *('multiprocessing.synchronize', 'PIL.ImageOps', 'tensorboardX', 'joblib', 'sklearn.svm'),
    *('glr_jax.data.records', 'glr_jax.baselines', 'glr_jax.report'),
)
for _name in _PRELOADED:
    importlib.import_module(_name)

_PAPER = Path(__file__).parents[2] / 'experiments' / 'gtzan_paper.flags'
LONGEST = 120  # seconds that a child may take
TINY = [
    *(
        flag
        for flag in flagfiles.expand([f'--flagfile={_PAPER}'])
        if flag.startswith(('--model.', '--train.', '--augment.'))
    ),
    *('--data.frames=8', '--train.batch_size=8', '--train.epochs=4', '--baselines=false'),
    *('--model.kind=cnn', '--model.kernels=4', '--train.schedule=constant'),
]
_MAINS = {'train': train.main, 'evaluate': evaluate.main, 'data_prep': preparation.main}


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
      killed: whether it was.
      code: its exit code.
      said: its stderr.
      value: what `after` returned.
    """

    killed: bool
    code: int
    said: str
    value: Any

    @property
    def lines(self) -> list[str]:
        """The lines of stderr that are no progress."""
        return [line for line in self.said.splitlines() if line.strip()]

    @property
    def has_traceback(self) -> bool:
        """Whether it showed what only a developer understands."""
        return TRACEBACK in self.said


def run(
    name: str,
    arguments: Sequence[str],
    root: str = '',
    fault: Fault | None = None,
    after: Callable[[], Any] | None = None,
) -> Ended:
    """Runs a command in a child.

    Args:
      name: `train`, `evaluate` or `data_prep`.
      arguments: its flags.
      root: the folder whose file operations count.
      fault: what happens to them; the operations are the value if nothing does.
      after: called in the child once the command has ended well; returns a JSON value.
    """

    def body() -> Any:
        sys.argv = [name, *arguments]
        operations = faults.install(root, fault) if fault is not None else []
        cli.execute(_MAINS[name], at_once=True)
        return after() if after else list(operations)

    return in_child(body)


def in_child(body: Callable[[], Any], longest: int = LONGEST) -> Ended:
    """Calls a function in a forked child that may be killed."""
    with tempfile.TemporaryDirectory(dir=_memory()) as scratch:
        said, value = os.path.join(scratch, 'stderr'), os.path.join(scratch, 'value')
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _behave(body, said, value, longest)
        _, status = os.waitpid(child, 0)
        text = Path(said).read_text(errors='replace')
        found = json.loads(Path(value).read_text()) if os.path.exists(value) else None
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return Ended(killed, os.waitstatus_to_exitcode(status), text, found)


def _behave(body: Callable[[], Any], said: str, value: str, longest: int) -> None:
    code = 1
    descriptor = os.open(said, os.O_CREAT | os.O_WRONLY)
    os.dup2(descriptor, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.alarm(longest)  # a command that hangs ends with SIGALRM
    try:
        found = body()
        code = 0
        with contextlib.suppress(TypeError):
            Path(value).write_text(json.dumps(found))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _memory() -> str | None:
    return '/dev/shm' if os.access('/dev/shm', os.W_OK) else None


def write_arrays(path: str, seed: int = 0, clips: int = 24) -> str:
    """A source of random spectrograms for data_prep."""
    rng = np.random.default_rng(seed)
    np.savez(
        path,
        mel=rng.integers(0, 256, (clips, 16, 8)).astype(np.uint8),
        label=np.array(['blues', 'jazz', 'rock'] * (clips // 3)),
        id=np.array([f'clip {k}' for k in range(clips)]),
    )
    return path


def preparing(source: str, out: str, *flags: str) -> list[str]:
    """Flags of data_prep for such a source."""
    always = ['--source=arrays', '--clips_per_shard=8', '--num_workers=1']
    return [*always, f'--input={source}', f'--out={out}', *flags]


def training(workdir: str, data: str, *flags: str) -> list[str]:
    """Flags of a tiny training run."""
    return [f'--workdir={workdir}', f'--data.dir={data}', *TINY, *flags]


def prepared(folder: str) -> str:
    """A tiny dataset below a folder, made once."""
    out = os.path.join(folder, 'data')
    if not os.path.exists(out):
        source = write_arrays(os.path.join(folder, 'source.npz'))
        well(run('data_prep', preparing(source, out)))
    return out


def trained(folder: str) -> str:
    """A finished run on it, made once."""
    data, workdir = prepared(folder), os.path.join(folder, 'run')
    if not os.path.exists(workdir):
        well(run('train', training(workdir, data, '--baselines=true')))
    return workdir


def well(ended: Ended) -> Ended:
    """The end of a command to which nothing was done."""
    if ended.code:
        raise RuntimeError(f'the torture itself failed: {ended.said}')
    return ended


def of_run(workdir: str) -> dict[str, Any]:
    """What a finished run consists of, bit by bit; times and paths of events do not count."""
    import orbax.checkpoint as ocp

    folder, arrays = os.path.join(workdir, 'checkpoints'), {}
    for step in intact.steps(folder):
        for item in ('model', 'training'):
            # A kill may leave an old checkpoint half removed.
            with contextlib.suppress(Exception), ocp.PyTreeCheckpointer() as reader:
                tree = reader.restore(os.path.join(os.path.abspath(folder), str(step), item))
                arrays[f'{step}/{item}'] = intact.checksums({item: tree})
    return {
        'arrays': arrays,
        'rows': log_rows(workdir),
        'report': report.read(workdir),
        'predictions': Path(workdir, 'report', 'predictions.csv').read_text(),
        'page': '</html>' in Path(workdir, 'report', 'index.html').read_text(),
        'config': json.loads(Path(workdir, 'config.json').read_text()),
        'data': json.loads(Path(workdir, 'data.json').read_text()),
    }


def log_rows(workdir: str) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl` without times."""
    rows = map(json.loads, Path(workdir, 'metrics.jsonl').read_text().splitlines())
    timed = ('clips_per_second', 'seconds', 'checksum')
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


def difference(found: dict[str, Any] | None, expected: dict[str, Any]) -> str:
    """How a finished run differs from the one that nothing happened to; '' if it does not.

    A killed run may keep an old checkpoint more, whole or half removed.
    """
    if found is None:
        return 'nothing was found'
    missing = [name for name in expected['arrays'] if name not in found['arrays']]
    if missing:
        return f'no checkpoint {missing[0]}'
    for name, sums in expected['arrays'].items():
        if found['arrays'][name] != sums:
            return f'other arrays in {name}'
    others = [key for key in expected if key != 'arrays' and found[key] != expected[key]]
    return f'other {", ".join(others)}' if others else ''


def files_of(folder: str) -> dict[str, str]:
    """The digest of every file in a folder, except leftovers that a later command removes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob('*'))
        if path.is_file()
    }


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A folder in memory, and a cache of compiled programs for all children."""
    with tempfile.TemporaryDirectory(prefix='torture-', dir=_memory()) as folder:
        if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
            os.environ['JAX_COMPILATION_CACHE_DIR'] = os.path.join(folder, 'cache')
        yield folder


def fresh(folder: str, like: str = '') -> str:
    """A folder that is missing, or a copy of another one."""
    shutil.rmtree(folder, ignore_errors=True)
    if like:
        shutil.copytree(like, folder, symlinks=True)
    return folder
