"""One run in its workdir: config, data, checkpoints, log."""
