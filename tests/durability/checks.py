"""What must be true of a data directory after whatever happened to its server."""

from collections import Counter
from pathlib import Path

from durability.load import Clients
from support.server import RunningServer


def check_stored_once(
    server: RunningServer, clients: Clients, context: str, where: str = "true"
) -> None:
    """Every acknowledged event once, every other at most once, and none that nobody sent."""
    assert not clients.problems, f"{context}: {clients.problems[:3]}"
    sql = f"SELECT uuid, count(*) AS copies FROM events WHERE {where} GROUP BY uuid"
    rows = server.query(sql)
    stored = Counter({row["uuid"]: row["copies"] for row in rows})
    acknowledged = clients.acknowledged()
    lost = acknowledged - stored.keys()
    doubled = {event_id for event_id, copies in stored.items() if copies > 1}
    strangers = stored.keys() - acknowledged - clients.unanswered()
    assert not lost, f"{context}: {len(lost)} of {len(acknowledged)} lost"
    assert not doubled, f"{context}: {len(doubled)} doubled"
    assert not strangers, f"{context}: {len(strangers)} never sent"


def wal_bytes(data_dir: Path) -> int:
    """Bytes of the log's folder, files that wait to be written again among them."""
    return sum(path.stat().st_size for path in (data_dir / "wal").iterdir())
