"""The stand-in of a core that is not open yet."""

import pytest

from penstock.engine import CoreLike
from penstock.starting import StartingCore

SURFACE = [name for name in vars(CoreLike) if not name.startswith("_")]


@pytest.mark.parametrize("name", SURFACE)
def test_a_starting_core_has_the_surface_of_the_core(name):
    assert hasattr(StartingCore(), name)


@pytest.mark.parametrize("name", [name for name in SURFACE if name.startswith("submit")])
def test_a_starting_core_refuses_whatever_is_submitted(name):
    refusal = getattr(StartingCore(), name)(object(), b"")
    assert (refusal.code, refusal.retry_after_seconds > 0) == ("starting", True)
