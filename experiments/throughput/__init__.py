"""Clips per second, beside the limit of the machine and beside PyTorch."""
