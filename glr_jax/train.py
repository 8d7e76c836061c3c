"""Trains a classifier: `python -m glr_jax.train --flagfile=experiments/demo.flags`."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float, Int

from glr_jax import (
    batches,
    checkpoint,
    cli,
    compiled,
    cost,
    evaluate,
    feeds,
    inference,
    parallel,
    processes,
    programs,
    report,
)
from glr_jax.cli import UserError
from glr_jax.config import Config, TrainConfig, check, save
from glr_jax.dataset import Dataset, open_dataset
from glr_jax.log import Log, status
from glr_jax.model import make_classifier
from glr_jax.trace import Trace

USAGE = """
usage: python -m glr_jax.train --flagfile=experiments/NAME.flags [--workdir=DIR] [--flag=value ...]

Trains, keeps the latest and the best checkpoint, and evaluates the best on the test split.
The same command again goes on where it stopped.
"""


class DivergedError(UserError):
    """The loss is no longer a number."""


def main(argv: list[str]) -> None:
    """Runs the command line."""
    config = cli.parse(Config, argv, USAGE)
    check(config)
    compiled.keep()
    processes.start(config.parallel)
    processes.check_same(config)
    scores = run(config, processes.together(lambda: open_dataset(config.data.dir)))
    if processes.is_first():
        print(report.table(scores))


def run(config: Config, dataset: Dataset, mesh: Mesh | None = None) -> dict[str, Any]:
    """Trains, goes on training, or finds it done; the scores of the best checkpoint.

    Args:
      config: the run.
      dataset: what it is trained on.
      mesh: the devices that share a step; all of them, unless given.

    Raises:
      UserError: the workdir is another run's, or a SIGTERM came before the last step.
      DivergedError: the learning rate is too high.
    """
    scores = processes.on_first(lambda: report.read(config.workdir))
    if scores:
        processes.on_first(lambda: save(config))  # or rather: is it this config's?
        status(f'{config.workdir} is finished')
        return scores
    if not train(config, dataset, mesh or parallel.make_mesh()):
        raise UserError(f'{config.workdir}: stopped early; the same command goes on from here')
    return evaluate.report_best(config.workdir, dataset, config.data.split)


def train(config: Config, dataset: Dataset, mesh: Mesh) -> bool:
    """Trains to the last epoch; False if a SIGTERM came first (a checkpoint has been kept)."""
    # Data: which clips are on which side.
    clips = dataset.members(config.data.split, 'train')
    validation = dataset.members(config.data.split, 'validation')
    if not len(clips) or not len(validation):
        raise UserError(f'--data.split={config.data.split} has no train or no validation clips')
    batch_size, seed = config.train.batch_size, config.seed
    steps = -(-config.train.epochs * len(clips) // batch_size)
    resident = feeds.fits(config.data, dataset, clips)

    # Model and optimiser.
    part = parallel.share_of_batch(batch_size, mesh, config.train.accumulate)
    classifier = make_classifier(config.model, dataset.n_mels, len(dataset.labels), seed)
    optimizer = optax.adam(learning_rate(config.train, steps))

    # State: from the latest checkpoint, or from the start.
    processes.on_first(lambda: save(config, mesh.size))
    processes.check_shared(config.workdir)
    manager = checkpoint.open_manager(config.workdir)
    meta = checkpoint.make_meta(config, dataset)
    state = programs.init_state(classifier, optimizer)
    latest = manager.latest_step()
    if latest is not None:
        checkpoint.check_dataset(dataset, checkpoint.read_meta(manager, latest), config.workdir)
    else:
        mean, deviation = band_statistics(dataset, clips)
        state.stats['mean'][...] = jnp.asarray(mean, jnp.float32)
        state.stats['deviation'][...] = jnp.asarray(deviation, jnp.float32)
    state = checkpoint.restore_latest(manager, parallel.replicate(state, mesh), mesh)
    done = int(state.step)
    segment = dataset.n_mels, len(dataset.labels), config.data.frames
    status(
        f'{config.workdir}: {config.model.kind}, {config.model.norm}, '
        f'{cost.size(state.params):,} parameters, '
        f'{cost.flops(config.model, *segment) / 1e6:,.0f} MFLOP a segment; '
        f'{len(clips)} train and {len(validation)} validation clips, {len(dataset.labels)} labels; '
        f'{mesh.size} {mesh.devices.flat[0].platform} device(s), '
        f'clips {"resident" if resident else "streamed"}'
    )
    if done:
        status(f'going on at step {done} of {steps}')

    # Input: what the steps of a dispatch are given, and the program that does them.
    frames = config.data.frames
    feed = processes.together(
        lambda: (
            feeds.resident(dataset, clips, frames, mesh)
            if resident
            else feeds.streamed(dataset, frames)
        )
    )
    program = programs.train_program(classifier, optimizer, seed, config.train.accumulate)
    mapper = config.parallel.mapper
    train_steps = parallel.on_every_device(
        programs.steps_program(program, feed.batch), mesh, mapper=mapper, result='replicated'
    )
    probabilities = inference.on_local_devices(classifier)

    def send(run: range) -> tuple[int, Any]:
        mixup = config.train.mixup
        plans = [batches.plan(step, batch_size, clips, seed, part, mixup) for step in run]
        items = batches.stack([feed.item(plan) for plan in plans])
        return run.stop, parallel.share(items, mesh, mapper)

    # Loop: a dispatch, and after each epoch validation, a line, a checkpoint.
    at_most = config.train.steps_per_dispatch or feed.steps_per_dispatch
    runs = batches.runs(done, steps, batch_size, len(clips), at_most)
    with (
        processes.stopping() as stops_here,
        Trace(config.workdir, config.profile) as trace,
        Log(config.workdir, batch_size=batch_size, steps=steps, done=done) as log,
    ):
        for step, items in batches.prefetch(send, runs):
            state = train_steps(state, items, *feed.held)
            stops = stops_here()
            log.step(step, state.totals)
            trace.step(step, state.totals)
            epoch = step * batch_size // len(clips)
            epoch_ends = batches.ends_epoch(step, batch_size, len(clips)) or step == steps
            scores = None
            if epoch_ends:
                apply = probabilities(parallel.on_local((state.params, state.stats)))
                scores = evaluate.score(apply, dataset, validation, config)
                if not math.isfinite(scores['loss']):
                    raise DivergedError(
                        f'{config.workdir}: the loss is no number any more after step {step}; '
                        f'lower --train.learning_rate={config.train.learning_rate} in a new workdir'
                    )
                log.epoch(min(epoch, config.train.epochs), step, state.totals, scores)
                state = state._replace(totals=parallel.replicate(programs.no_totals(), mesh))
            if epoch_ends or stops:
                checkpoint.save(manager, state, meta, scores)
            if stops:
                break
    manager.close()
    return int(state.step) == steps


def learning_rate(config: TrainConfig, steps: int) -> optax.Schedule:
    """The learning rate at each step: as it is, or half a cosine down to zero at the last."""
    match config.schedule:
        case 'constant':
            return optax.constant_schedule(config.learning_rate)
        case 'cosine':
            return optax.cosine_decay_schedule(config.learning_rate, steps)


def band_statistics(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], at_most: int = 4096
) -> tuple[Float[np.ndarray, ' mels'], Float[np.ndarray, ' mels']]:
    """Mean and deviation of each mel band over the training clips, or evenly drawn ones of many.

    A band that hardly varies (above an mp3's low-pass, say) is given a deviation of 1.
    """
    chosen = clips[:: -(-len(clips) // at_most)]
    frames, total, squares = 0, np.zeros(dataset.n_mels), np.zeros(dataset.n_mels)
    for clip in chosen:
        mel = dataset.mel(clip).astype(np.float32)
        frames += len(mel)
        total += mel.sum(0, dtype=np.float64)
        squares += np.square(mel).sum(0, dtype=np.float64)
    mean = total / frames
    return mean, np.maximum(np.sqrt(np.maximum(squares / frames - mean**2, 0)), 1.0)


if __name__ == '__main__':
    cli.run(main)
