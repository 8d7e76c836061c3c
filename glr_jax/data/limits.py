"""What one audio file may take; each limit is checked before the memory is taken."""

MAX_SECONDS = 4 * 3600  # of a file
MAX_CHANNELS = 64
MAX_RATIO = 100  # between the sample rates of a file and of the front end, either way
MAX_BLOCK = 1 << 24  # samples of all channels that are decoded at once
MAX_VALUES = 1 << 28  # of a spectrogram: frames times mel bands
