"""Generated from `proto/penstock/v1`."""
