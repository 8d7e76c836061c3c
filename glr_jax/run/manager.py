"""Orbax's manager of a workdir's checkpoints, imported and made when it is needed.

Orbax takes a tenth of the imports of a start, so a new run imports it only when it first saves.
"""

import functools
from typing import Any


class Manager:
    """The checkpoints of a workdir; Orbax keeps the newest three and the best one.

    Args:
      folder: of the checkpoints.
      read_only: whether nothing in it may change.
    """

    def __init__(self, folder: str, read_only: bool):
        self.folder, self.read_only = folder, read_only

    @functools.cached_property
    def orbax(self) -> Any:
        """Orbax's manager. The processes of a run make it at the same time, as they must."""
        import orbax.checkpoint as ocp
        from orbax.checkpoint.checkpoint_managers import preservation_policy

        # Both best_fn and the policies are needed: the policies alone do not tell which is best.
        newest = preservation_policy.LatestN(3)  # at least two beside the best
        best = preservation_policy.BestN(
            get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False
        )
        return ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=_rank,
                preservation_policy=preservation_policy.AnyPreservationPolicy([newest, best]),
                cleanup_tmp_directories=not self.read_only,
                read_only=self.read_only,
                create=not self.read_only,
            ),
        )

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint; None if there is none."""
        return self.orbax.latest_step() if self._is_made() else None

    def save(self, step: int, **options: Any) -> None:
        """As Orbax's `save`."""
        self.orbax.save(step, **options)

    def is_saving_in_progress(self) -> bool:
        """Whether a checkpoint is being written in the background."""
        return self._is_made() and self.orbax.is_saving_in_progress()

    def close(self) -> None:
        """Waits until all checkpoints are written, and closes Orbax's manager."""
        if self._is_made():
            self.orbax.close()

    def _is_made(self) -> bool:
        return 'orbax' in vars(self)

    def __enter__(self) -> 'Manager':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rank(validation: dict[str, float]) -> float:
    """Ranks by validation loss; on a hundred clips the best of fifty accuracies is largely luck."""
    return -validation['loss']
