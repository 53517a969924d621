"""The operator's tools for the log: look into it, check it, send it again."""
