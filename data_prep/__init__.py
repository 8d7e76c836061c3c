"""Offline preparation: audio files to log-mel spectrograms in TFRecords."""

import glr_jax  # noqa: F401 (it sees to signals before the imports that take long)
