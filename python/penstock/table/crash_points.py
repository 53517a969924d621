"""Where a test may end the process; a build without test features does nothing there.

The names of all points, these among them, stand in `rust_core/disk/src/crash.rs`.
"""

try:
    from penstock._core import crash_point
except ImportError:  # Tests of this room run without the core.

    def crash_point(name: str) -> None:
        """Do nothing: see `_core.crash_point`."""


__all__ = ["crash_point"]
