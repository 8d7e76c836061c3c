"""Data: audio to mel spectrograms, dataset folders, batches. Knows no model."""
