"""From audio to batches: mel spectrograms, dataset folders, input pipelines; knows no model."""
