"""Clips per second, against the machine's own limit and against PyTorch."""
