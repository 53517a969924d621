"""The tables: committing cuts of the log to them, and reading them together with the log."""
