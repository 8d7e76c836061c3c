"""A network on several splits and seeds, beside the baselines and another network."""
