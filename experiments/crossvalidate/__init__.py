"""Cross-validates a network over splits and seeds, and compares it with the baselines."""
