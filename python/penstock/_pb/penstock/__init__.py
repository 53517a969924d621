"""Generated from `proto/penstock`."""
