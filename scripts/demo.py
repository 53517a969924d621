"""Shows the whole way once: start, send, ask. `make demo` runs it; nothing is left behind.

Starts `penstock serve` on free ports and a folder of its own, sends events with the `posthog`
package and by plain HTTP, prints what `penstock query` answers about them, and stops the service.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import posthog

TOKEN = "phc_demo"  # noqa: S105 - any text is a project's token until projects are named
START_SECONDS = 30.0
STOP_SECONDS = 40.0
POLL_SECONDS = 0.05
SQL = """
SELECT project, event, distinct_id, lib, json_extract_string(properties, '$.plan') AS plan
FROM events ORDER BY timestamp, log_position, batch_index
"""


def main() -> int:
    """Run the demonstration; 0 if every event that was sent is answered by the query."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--penstock", default="penstock", help="the command to show")
    penstock = parser.parse_args().penstock
    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder:
        return _run(penstock, Path(folder))


def _run(penstock: str, folder: Path) -> int:
    data_dir, ready_file, log_path = folder / "data", folder / "ready.json", folder / "serve.log"
    command = [penstock, "serve", "--data-dir", str(data_dir), "--ready-file", str(ready_file)]
    for listener in ("http", "grpc", "admin"):
        command += [f"--{listener}", "127.0.0.1:0"]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        ready = _wait_until_ready(process, ready_file)
        print(f"1. `penstock serve` takes events on {ready['http']} (HTTP), {ready['grpc']} (gRPC)")
        sent = _send_by_sdk(f"http://{ready['http']}") + _send_by_http(f"http://{ready['http']}")
        print('4. `penstock query "SELECT …"`: table and what is not yet in it\n')
        rows = _query(penstock, data_dir)
    except BaseException:
        print(log_path.read_text(errors="replace"), file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        exit_code = process.wait(STOP_SECONDS)
    print(f"\n5. stopped (exit code {exit_code})")
    if rows != sent or exit_code != 0:
        print(f"sent {sent} events, the query answered {rows}", file=sys.stderr)
        return 1
    return 0


def _wait_until_ready(process: subprocess.Popen[bytes], ready_file: Path) -> dict[str, Any]:
    for _ in range(int(START_SECONDS / POLL_SECONDS)):
        if ready_file.exists():
            ready: dict[str, Any] = json.loads(ready_file.read_bytes())
            return ready
        try:
            code = process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        message = f"the service ended at once (exit code {code})"
        raise RuntimeError(message)
    message = f"the service was not ready after {START_SECONDS:g} s"
    raise RuntimeError(message)


def _send_by_sdk(url: str) -> int:
    print(f'2. the Python SDK: Posthog("{TOKEN}", host="{url}")')
    client = posthog.Posthog(TOKEN, host=url, gzip=True)
    client.capture("signed up", distinct_id="ada", properties={"plan": "team"})
    client.set(distinct_id="ada", properties={"name": "Ada"})
    client.capture("report opened", distinct_id="ada", properties={"plan": "team", "pages": 3})
    client.shutdown()  # waits until the server has answered
    return 3


def _send_by_http(url: str) -> int:
    print(f"3. plain HTTP: POST {url}/i/v0/e/")
    event = {
        "api_key": TOKEN,
        "event": "invoice paid",
        "distinct_id": "grace",
        "properties": {"plan": "solo", "amount": 12.5},
    }
    request = urllib.request.Request(  # noqa: S310 - an http address of our own
        f"{url}/i/v0/e/", json.dumps(event).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
        print(f"   {answer.status} {answer.read().decode()}: on disk, by fdatasync")
    return 1


def _query(penstock: str, data_dir: Path) -> int:
    command = [penstock, "query", SQL, "--data-dir", str(data_dir)]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    command = [penstock, "query", "SELECT count(*) AS events FROM events", "--format", "json"]
    answer = subprocess.run(
        [*command, "--data-dir", str(data_dir)], check=True, capture_output=True
    )
    rows: int = json.loads(answer.stdout)[0]["events"]
    return rows


if __name__ == "__main__":
    sys.exit(main())
