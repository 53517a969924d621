"""Generated from `proto/`. Regenerate with `make proto`; never edit."""
