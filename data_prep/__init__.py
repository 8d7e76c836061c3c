"""Audio files to log-mel TFRecords, offline."""
