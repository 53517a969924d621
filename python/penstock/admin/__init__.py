"""Health, metrics and a status page, on a listener of their own."""
