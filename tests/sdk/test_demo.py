"""`make demo` is a promise of the README; here it runs against the build under test."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.repository import ROOT
from support.server import clean_environment

pytestmark = pytest.mark.sdk


def test_demo_finds_every_event_that_it_sent() -> None:
    penstock = Path(sys.executable).parent / "penstock"
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py"), "--penstock", str(penstock)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for event in ("signed up", "report opened", "invoice paid"):
        assert event in done.stdout
