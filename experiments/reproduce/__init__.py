"""The paper's experiment: models, splits, tables and figures."""
