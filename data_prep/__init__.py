"""Offline preparation: audio files to log-mel spectrograms in TFRecords."""
