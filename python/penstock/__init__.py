"""penstock takes product events, answers when they are safe on disk, and makes them a table."""

from typing import Final

__version__: Final = "0.1.0"
"""The release. `tests/tidy` holds it equal to the version of the package and of the core."""
