"""Music classifiers in JAX: a CRNN with Global Layer Regularization.

The public names below are imported when they are first used, so that `import glr_jax` itself
imports neither JAX nor anything else. In one of the project's commands it first sees to signals.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit('glr_jax needs Python 3.11 or newer; this is ' + sys.version.split()[0])

_COMMANDS = ('glr_jax', 'data_prep', 'experiments')
if sys.orig_argv[1:2] == ['-m'] and sys.orig_argv[2].split('.')[0] in _COMMANDS:
    import signal

    if hasattr(signal, 'pthread_sigmask'):  # until `leave_at_once`; its own imports take a while
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])

    from glr_jax import signals

    signals.leave_at_once(sys.orig_argv[2])  # Ctrl-C during the imports is one line

import importlib
from typing import Any

_MODULES = {
    'load': 'glr_jax.tagger',
    'Tagger': 'glr_jax.tagger',
    'Prediction': 'glr_jax.tagger',
    'glr': 'glr_jax.nn.glr',
    'Norm': 'glr_jax.nn.norms',
    'make_norm': 'glr_jax.nn.norms',
    'CRNN': 'glr_jax.nn.model',
    'ConvBlock': 'glr_jax.nn.model',
    'Recurrent': 'glr_jax.nn.model',
    'Classifier': 'glr_jax.nn.model',
    'make_classifier': 'glr_jax.nn.model',
    'ModelConfig': 'glr_jax.nn.config',
    'Config': 'glr_jax.config',
    'open_dataset': 'glr_jax.data.dataset',
    'train_and_evaluate': 'glr_jax.train',
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
