"""The paper's experiment: models, splits, its tables and figures."""
