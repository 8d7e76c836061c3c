"""Trains a classifier: `python -m glr_jax.train --flagfile=experiments/demo.flags`."""

from glr_jax import cli
from glr_jax.config import Config, TrainConfig, TrainFlags
from glr_jax.devices import startup

USAGE = """
usage: python -m glr_jax.train --flagfile=experiments/NAME.flags [--workdir=DIR] [--flag=value ...]

Trains, keeps the latest checkpoints and the best one, and evaluates the best on the test clips.
Also prints what an SVM and the majority class reach on the same clips; where clips may have several
labels, a linear classifier and the label frequencies.
If a run was interrupted, the same command resumes it. Ctrl-C and SIGTERM save first, and the exit
code is then 75.
"""

if __name__ == '__main__':  # before JAX is imported, which takes seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(TrainFlags, USAGE)

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from glr_jax import inference, report, scoring, signals, storage, tag_metrics, train_step
from glr_jax.data import batches, input_pipeline
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.split_table import empty_sides
from glr_jax.devices import parallel, processes
from glr_jax.devices.processes import announce
from glr_jax.errors import StoppedError, UsageError, UserError
from glr_jax.fields import LARGEST_INT
from glr_jax.nn import cost
from glr_jax.nn.model import make_classifier
from glr_jax.optimizer import make_optimizer
from glr_jax.run import checkpoint, events, start, workdir
from glr_jax.run.labels import announce_missing_labels
from glr_jax.run.log import Log, validation_losses
from glr_jax.run.segment import announce_short_clips, choose_frames
from glr_jax.run.split import choose_split
from glr_jax.run.trace import Trace
from glr_jax.text import counted


class DivergedError(UserError):
    """The loss became NaN, infinite or absurdly large."""


def main(argv: list[str]) -> None:
    """Runs the command line."""
    flags = cli.parse(TrainFlags, argv, USAGE)
    config = flags.config()
    cli.need(config, 'workdir', 'data.dir')
    startup.enable_compilation_cache()
    processes.start(config.parallel)
    with processes.as_one():
        _run(flags, config)


def _run(flags: TrainFlags, config: Config) -> None:
    startup.check_devices()
    processes.check_same(config)
    processes.on_first(lambda: workdir.refuse_file(config.workdir))
    dataset = processes.together(lambda: open_dataset(config.data.dir))
    config = choose_frames(choose_split(config, dataset), dataset, flags.data.seconds)
    was_finished = processes.on_first(lambda: workdir.is_finished(config.workdir))
    scores = train_and_evaluate(config, dataset)
    if processes.is_first():
        print(report.table(scores))
    # Process 0 decides for all, since their flags may differ here.
    floor = processes.on_first(
        lambda: report.add_floor(config, dataset, scores) if config.baselines else {}
    )
    if floor and processes.is_first():
        print(report.wrapped(report.compared(floor)))
    announce(f'report      {storage.link(os.path.join(config.workdir, "report", "index.html"))}')
    if was_finished:  # its checkpoints may have been removed or damaged since
        processes.on_first(lambda: checkpoint.check_usable(config.workdir))
    if dataset.from_audio:
        announce(f'tag files   python -m glr_jax.predict --workdir={config.workdir} FILE_OR_FOLDER')


def train_and_evaluate(
    config: Config, dataset: Dataset, mesh: Mesh | None = None
) -> dict[str, Any]:
    """Trains or resumes a run, unless it is finished, and returns the best checkpoint's scores.

    Args:
      config: of the run.
      dataset: the clips.
      mesh: the devices that share each step; all of them by default.

    Raises:
      UserError: the workdir belongs to another run, another command trains it, or the run is to be
        extended and has no usable checkpoint.
      StoppedError: a signal came before the last step; a checkpoint was saved.
      DivergedError: the learning rate is too high.
    """
    scores = processes.on_first(lambda: report.read(config.workdir))
    if scores and not processes.on_first(lambda: workdir.is_extended(config)):
        processes.on_first(lambda: workdir.claim(config))  # verifies that it is this config's
        announce(f'{config.workdir} is finished')
        return scores
    if scores:  # to be extended, but not silently from the beginning
        processes.on_first(lambda: checkpoint.check_usable(config.workdir))
    with contextlib.ExitStack() as stack:
        lock = workdir.lock(config.workdir)
        processes.together(lambda: stack.enter_context(lock) if processes.is_first() else None)
        if not train(config, dataset, mesh or parallel.make_mesh()):
            raise StoppedError(f'{config.workdir}: stopped early and saved; {signals.RESUME_HINT}')
        scores = scoring.report_best(
            config.workdir,
            dataset,
            config.data.split,
            config=config,
            allow_changed_data=config.allow_changed_data,
        )
        if processes.is_first():
            events.write_test(config, scores)
        return scores


def train(config: Config, dataset: Dataset, mesh: Mesh) -> bool:
    """Trains to the end of the run; False if a signal came first (a checkpoint was saved).

    The end is the last step, unless --train.patience or --train.time_limit ends the run earlier.
    """
    started = time.monotonic()
    # Data: which clips are on which side.
    clips = dataset.members(config.data.split, 'train')
    validation = dataset.members(config.data.split, 'validation')
    if not len(clips) or not len(validation):
        empty = ' or '.join(empty_sides(dataset.splits[config.data.split]))
        raise UserError(f'--data.split={config.data.split} has no {empty} clips')
    batch_size, seed = config.train.batch_size, config.seed
    epochs = config.train.all_epochs(len(clips))
    steps = -(-epochs * len(clips) // batch_size)
    if steps > LARGEST_INT:
        raise UsageError(
            f'--train.epochs={epochs} must be at most {LARGEST_INT * batch_size // len(clips)}: '
            f'more epochs of {len(clips):,} clips have more than {LARGEST_INT:,} steps'
        )
    resident = input_pipeline.fits(config.data, dataset, clips)

    # Model and optimizer.
    part = parallel.process_slice(batch_size, mesh, config.train.accumulate)
    config.model.check_bands(dataset.n_mels)
    bands, labels = dataset.n_mels, len(dataset.labels)
    make = lambda: make_classifier(config.model, bands, labels, seed, dataset.multi_label)
    classifier = nnx.jit(make)()  # as one program, which a second start loads sooner than dozens
    optimizer = make_optimizer(config.train, steps)

    # State: from the latest intact checkpoint, from another run, or from the beginning.
    processes.on_first(lambda: workdir.claim(config, mesh.size))
    processes.check_shared(config.workdir)
    manager = checkpoint.open_manager(config.workdir)
    state, meta, spent = start.begin(config, dataset, manager, classifier, optimizer, mesh)
    done = int(state.step)
    segment = dataset.n_mels, len(dataset.labels), config.data.frames
    announce(
        f'{config.workdir}: {config.model.kind} with {config.model.norm}, '
        f'{cost.size(state.params):,} parameters, '
        f'{cost.flops(config.model, *segment) / 1e6:,.0f} MFLOP per segment'
    )
    announce(
        f'{len(clips):,} train and {counted(len(validation), "validation clip", ",")} of '
        f'{config.data.split}, {counted(len(dataset.labels), "label")}'
    )
    announce(
        f'{counted(epochs, "epoch")}, {counted(steps, "step", ",")}, '
        f'{counted(mesh.size, f"{mesh.devices.flat[0].platform} device")}, '
        f'clips {"resident" if resident else "streamed"}'
    )
    if batch_size > len(clips) and epochs > 1:
        announce(
            f'a step of {batch_size} clips covers more than one epoch of {len(clips)}: validation '
            'follows each step, so the table leaves out some epochs'
        )
    announce_missing_labels(dataset, clips, validation)
    announce_short_clips(config, dataset, clips)
    if done:
        announce(f'resuming at step {done} of {steps}')

    # Input: what the devices receive for each step, and the program that makes the steps.
    frames = config.data.frames
    pipeline = processes.together(
        lambda: (
            input_pipeline.resident(dataset, clips, frames, mesh)
            if resident
            else input_pipeline.streamed(dataset, frames)
        )
    )
    weights = None
    if config.train.class_weights == 'balanced':
        weights = batches.balanced_weights(dataset.targets[clips], len(dataset.labels))
    balance = None
    if config.train.sampler == 'balanced':
        balance = batches.make_balance(clips, dataset.has_label()[clips])
    one_step = train_step.make_train_step(
        classifier,
        optimizer,
        seed,
        config.train.accumulate,
        average=config.train.average,
        label_smoothing=config.train.label_smoothing,
        class_weights=weights,
        augmentation=config.augment,
    )
    mapper = config.parallel.mapper
    train_steps = parallel.on_every_device(
        train_step.make_train_steps(one_step, pipeline.assemble),
        mesh,
        mapper=mapper,
        result='replicated',
    )
    probabilities = inference.on_local_devices(classifier)

    def send(dispatch: range) -> tuple[int, Any]:
        mixup = config.train.mixup
        plans = [
            batches.plan_batch(step, batch_size, clips, seed, part, mixup, balance)
            for step in dispatch
        ]
        payloads = input_pipeline.stack([pipeline.payload(plan) for plan in plans])
        return dispatch.stop, parallel.shard_batch(payloads, mesh, mapper)

    def seconds() -> float:
        total = np.asarray(spent + time.monotonic() - started)
        # All processes must decide the same, so the clock of process 0 counts.
        return float(processes.gather(total)[0] if config.train.time_limit else total)

    # Loop: one dispatch at a time; after each epoch validation, a line of log, a checkpoint.
    at_most = config.train.steps_per_dispatch or pipeline.steps_per_dispatch
    losses = processes.on_first(lambda: validation_losses(config.workdir, done))
    ended = ending(config.train, losses, spent)
    last, stops = done if ended else steps, False
    dispatches = batches.dispatches(done, last, batch_size, len(clips), at_most)
    with (
        processes.stopping() as stops_here,
        Trace(config.workdir, config.profile) as trace,
        Log(
            config.workdir,
            batch_size=batch_size,
            steps=steps,
            done=done,
            spent=spent,
            epochs=epochs,
            multi_label=dataset.multi_label,
        ) as log,
    ):
        for step, payloads in input_pipeline.prefetch(send, dispatches):
            state = train_steps(state, payloads, *pipeline.held)
            stops = stops_here()
            log.step(step, state.totals)
            trace.step(step, state.totals)
            total = seconds()
            ended = ending(config.train, losses, total)
            epoch_ends = batches.ends_epoch(step, batch_size, len(clips)) or step == steps
            scores = None
            if epoch_ends or ended:
                log.pause(step, state.totals)
                apply = probabilities(parallel.on_local((state.to_use(), state.stats)))
                scores = scoring.score(apply, dataset, validation, config)
                if not math.isfinite(scores['loss']) or train_step.has_exploded(state.totals):
                    raise DivergedError(
                        f'{config.workdir}: the loss exploded or became NaN by step {step}; use a '
                        f'new workdir and lower --train.learning_rate={config.train.learning_rate}'
                    )
                losses.append(scores['loss'])
                ended = ending(config.train, losses, total)
            if scores or stops:
                with signals.whole:  # an epoch in the log has its checkpoint
                    if scores:
                        epoch = step * batch_size // len(clips) + (not epoch_ends)
                        log.epoch(min(epoch, epochs), step, state.totals, scores)
                        zeros = parallel.replicate(train_step.zero_totals(), mesh)
                        state = state._replace(totals=zeros)
                    now = dataclasses.replace(meta, seconds=total)
                    if scores:
                        now = dataclasses.replace(now, thresholds=tag_metrics.thresholds_in(scores))
                    checkpoint.save(manager, state, now, scores)
            if ended or stops:
                break
        checkpoint.finish(manager)
    if ended and int(state.step) < steps:
        announce(f'{config.workdir}: ended at step {int(state.step)} of {steps}: {ended}')
    return not stops and (bool(ended) or int(state.step) >= steps)


def ending(config: TrainConfig, losses: Sequence[float], seconds: float) -> str:
    """Why a run ends before its last step; empty if it continues.

    It depends on saved values only, so a run that resumes decides as if it had not stopped.

    Args:
      config: has the patience and the time limit.
      losses: the validation loss of each epoch so far.
      seconds: training time so far.
    """
    if config.time_limit and seconds >= 60 * config.time_limit:
        return f'the time is up (--train.time_limit={config.time_limit:g} minutes)'
    if config.patience and losses and len(losses) > config.patience + np.argmin(losses):
        return (
            f'the validation loss has not improved since epoch {np.argmin(losses) + 1} '
            f'(--train.patience={config.patience})'
        )
    return ''


if __name__ == '__main__':
    cli.execute(main, at_once=True, resumes=True)
