"""What a person at a terminal sees once the service is ready: lines that work as printed."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_EXAMPLE_TOKEN = "phc_demo"  # noqa: S105 - any token works while no project is named

# An address that listens on all interfaces, and one of them. `[::]` is IPv6 only for HTTP.
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared, not bound


def greeting(
    addresses: Mapping[str, str], data_dir: Path, token: str | None, *, command: str = "penstock"
) -> str:
    """Write the greeting.

    Args:
        addresses: Real addresses by listener.
        data_dir: As configured; named in the query only if it is not the default.
        token: One that the server takes; None: any is taken.
        command: What runs `penstock` in the same terminal.
    """
    url = f"http://{reachable(addresses['http'])}"
    shown = token or _EXAMPLE_TOKEN
    is_default = data_dir == Path("penstock-data")
    where = "" if is_default else f" --data-dir {shlex.quote(str(data_dir))}"
    return f"""
penstock is ready: an event is answered when it is safe on disk.

  HTTP   {url}   (any PostHog SDK)
  gRPC   {reachable(addresses["grpc"])}
  admin  http://{reachable(addresses["admin"])}   (/healthz /readyz /metrics)

Send an event:

  curl -i {url}/batch/ -H 'Content-Type: application/json' -d \\
    '{{"api_key":"{shown}","batch":[{{"event":"hello","distinct_id":"me","properties":{{}}}}]}}'

Or point an SDK here, for example Python:

  posthog = Posthog("{shown}", host="{url}")

See what came in, at once:

  {command} query{where} "SELECT timestamp, event, distinct_id FROM events LIMIT 10"

"""  # noqa: S608 - printed for a person, run by nobody


def own_command() -> str:
    """Give what runs this very `penstock` in the terminal that it was started from."""
    beside = Path(sys.executable).with_name("penstock")
    on_path = shutil.which("penstock")
    if on_path is not None and (not beside.exists() or Path(on_path).samefile(beside)):
        return "penstock"
    if not beside.exists():
        return f"{shlex.quote(sys.executable)} -m penstock"
    here = Path.cwd()
    shown = beside.relative_to(here) if beside.is_relative_to(here) else beside
    return shlex.quote(str(shown))


def reachable(address: str) -> str:
    """Write an address that a client can use, for one that listens on all interfaces."""
    host, _, port = address.rpartition(":")
    return f"{_REACHABLE.get(host, host)}:{port}"
