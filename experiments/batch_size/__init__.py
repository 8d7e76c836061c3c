"""Every norm with fewer and fewer clips per device, at the same batch size."""
