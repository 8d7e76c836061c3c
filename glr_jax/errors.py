"""Failures that a user can cause and mend; each message is the one line that they see."""

from glr_jax.text import shorten

AGAIN = 75  # exit code (EX_TEMPFAIL of sysexits.h): run the same command again


class UserError(Exception):
    """Something outside the program is wrong: a file, a folder, a dataset, a device."""

    exit_code = 1


class StoppedError(UserError):
    """A signal stopped the command; the same command resumes it."""

    exit_code = AGAIN


class UsageError(UserError):
    """The command line, or a config built in Python, does not make sense."""

    exit_code = 2


class FieldError(UsageError):
    """One field of a config has a value that it cannot have.

    Args:
      field: its name, with the names of the sections around it: `model.dropout`.
      value: the value as it would be written in a flag.
      reason: what is wrong, as the end of a sentence: `must be at least 0`.
    """

    def __init__(self, field: str, value: str, reason: str):
        super().__init__(f'--{field}={shorten(value, 200)} {reason}')
        self.field, self.value, self.reason = field, value, reason

    def inside(self, prefix: str) -> 'FieldError':
        """The same error seen from the section around it; `prefix` is what its flags begin with."""
        return FieldError(prefix + self.field, self.value, self.reason)


class ClipError(Exception):
    """A clip cannot be used; the message says why and does not name the clip."""


class UnreadableError(ClipError):
    """A clip cannot be read here and now; later, or with ffmpeg, it may be."""
