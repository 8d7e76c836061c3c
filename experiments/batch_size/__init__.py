"""Every norm as the clips per device get fewer and the batch stays the same."""
