"""Weights in the safetensors format, and the folder of which `glr_jax.load` makes a network again.

`model.safetensors` holds arrays and nothing else; `model.json` holds what a checkpoint records
about its run. Neither can hold code.
"""

import hashlib
import os
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from glr_jax import json_files, storage
from glr_jax.devices import parallel
from glr_jax.errors import UserError
from glr_jax.fields import from_dict
from glr_jax.nn.model import make_classifier, partition
from glr_jax.run.checkpoint import Best
from glr_jax.run.provenance import Meta

WEIGHTS, DESCRIPTION = 'model.safetensors', 'model.json'
_REMEDY = 'export or download it again'
_INSTALL = "safetensors is missing; install it with: pip install -e '.[export]'"


def is_export(folder: str) -> bool:
    """Whether a folder holds an exported network rather than a run."""
    return storage.exists(os.path.join(folder, WEIGHTS))


def make(run: Best) -> bytes:
    """The content of `model.safetensors`."""
    try:
        import safetensors.numpy
    except ImportError:
        raise UserError(_INSTALL) from None
    arrays = {name: np.asarray(value) for name, value in _named(run.state).items()}
    return safetensors.numpy.save(arrays, {'format': 'np'})


def read(folder: str, mesh: Mesh) -> Best:
    """The network in an exported folder, on the devices of a mesh.

    Raises:
      UserError: a file is missing or damaged, or has other arrays than `model.json` describes.
    """
    path, described = (os.path.join(folder, name) for name in (WEIGHTS, DESCRIPTION))
    if not storage.exists(described):
        raise UserError(f'{folder} has no {DESCRIPTION}; {_REMEDY}')
    values = json_files.read_object(described, _REMEDY)
    if not json_files.is_intact(values):
        raise UserError(f'{described} is damaged: its checksum is wrong; {_REMEDY}')
    try:
        meta, step = from_dict(Meta, values['meta']), int(values['step'])
        checksum = values['files'][WEIGHTS].get('sha256', '')
        config = meta.config.model
        # Without memory for its arrays: the files may be anybody's, so sizes are compared first.
        classifier = nnx.eval_shape(
            lambda: make_classifier(config, meta.n_mels, len(meta.labels), 0, meta.multi_label)
        )
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        raise UserError(f'{described} is damaged: {error}; {_REMEDY}') from None
    _, params, stats = partition(classifier)
    arrays = _read_arrays(path, checksum)
    wanted = _named((params, stats))
    shapes = lambda named: {name: (x.shape, str(x.dtype)) for name, x in named.items()}
    if shapes(arrays) != shapes(wanted):
        raise UserError(f'{path} has other arrays than {DESCRIPTION} describes; {_REMEDY}')
    structure = jax.tree.structure((params, stats))
    state = jax.tree.unflatten(structure, [arrays[name] for name in wanted])
    return Best(classifier, parallel.replicate(state, mesh), meta, step, folder)


def _read_arrays(path: str, checksum: str) -> dict[str, np.ndarray]:
    try:
        import safetensors.numpy
    except ImportError:
        raise UserError(f'{path} cannot be read: {_INSTALL}') from None
    with storage.to_read(path) as local:
        with open(local, 'rb') as file:
            content = file.read()
        if checksum and hashlib.sha256(content).hexdigest() != checksum:
            raise UserError(f'{path} is damaged: its checksum is wrong; {_REMEDY}')
        try:
            return safetensors.numpy.load(content)
        except safetensors.SafetensorError as error:
            raise UserError(f'{path} is damaged: {error}; {_REMEDY}') from None


def _named(state: tuple[Any, Any]) -> dict[str, Any]:
    """{'params.output.kernel': array, ...}, in the order of the tree's leaves."""
    named = dict(zip(('params', 'stats'), state, strict=True))
    return {
        jax.tree_util.keystr(path, simple=True, separator='.').removesuffix('.value'): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(named)
    }
