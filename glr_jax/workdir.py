"""A run's folder: `config.json` says which run it belongs to."""

import json
import os

from glr_jax import storage
from glr_jax.config import Config, differences
from glr_jax.errors import UserError
from glr_jax.fields import from_dict, to_dict


def claim(config: Config, devices: int | None = None) -> None:
    """Writes `config.json` into a new workdir, or verifies the one that is there.

    Args:
      config: of the run.
      devices: how many it would train on; None if it is only to be read.

    Raises:
      UserError: the workdir belongs to a run with another config, or to something else, or batch
        normalisation would compute its statistics over another number of clips.
    """
    path = os.path.join(config.workdir, 'config.json')
    clips = None if devices is None else clips_normalised_together(config, devices)
    if not os.path.exists(path):
        if os.path.isdir(config.workdir) and os.listdir(config.workdir):
            raise UserError(
                f'{config.workdir} is not empty and was not created by glr_jax; '
                'choose another --workdir'
            )
        os.makedirs(config.workdir, exist_ok=True)
        with storage.to_write(path) as partial, open(partial, 'w') as file:
            json.dump(to_dict(config) | {'normalised_together': clips}, file, indent=2)
            file.write('\n')
        return
    changed = differences(read_config(config.workdir), config)
    if changed:
        raise UserError(
            f'{config.workdir} holds a run with {", ".join(changed)}; '
            'choose another --workdir, or give the same flags to resume'
        )
    with open(path) as file:
        before = json.load(file).get('normalised_together')  # older runs lack it
    if clips and before and clips != before:
        product = config.train.batch_size // before
        per_device = config.model.norm == 'batch'
        raise UserError(
            f'{config.workdir} holds a run with batch normalisation over {before} clips at a time, '
            f'but here it would be over {clips}; resume with '
            + ('devices × --train.accumulate = ' if per_device else '--train.accumulate=')
            + f'{product}'
        )


def read_config(workdir: str) -> Config:
    """The config of the run in a workdir.

    Raises:
      UserError: there is no run, or its config is damaged.
    """
    path = os.path.join(workdir, 'config.json')
    try:
        with open(path) as file:
            return from_dict(Config, json.load(file))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f'{workdir} holds no run: {path} was not found') from None
    except (UserError, json.JSONDecodeError, AttributeError, TypeError) as error:
        raise UserError(f'{path} is damaged: {error}') from None


def clips_normalised_together(config: Config, devices: int) -> int | None:
    """How many clips share their statistics in batch normalisation; None with any other norm."""
    match config.model.norm:
        case 'batch':
            return config.train.batch_size // (devices * config.train.accumulate)
        case 'batch_sync':
            return config.train.batch_size // config.train.accumulate
        case _:
            return None
