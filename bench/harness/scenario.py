"""One question to a running server, read from `bench/load/scenarios`."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the results. The keys of the file are the fields; see `bench/load/README.md`."""

    name: str
    question: str
    kind: Literal["burst", "sustained", "acknowledge", "restart"]
    events: int
    server: str = "penstock"
    protocol: Literal["http", "grpc"] = "http"
    gzip: bool = False
    connections: int = 64
    streams: int = 1
    pool: int = 0
    seconds: float = 10.0
    warmup_seconds: float = 1.0
    repeats: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    goal: dict[str, float] = field(default_factory=dict)

    def smoke(self) -> "Scenario":
        """The same in about a second, to show that it works; its numbers mean nothing."""
        return dataclasses.replace(
            self, seconds=1.0, warmup_seconds=0.0, repeats=1, pool=min(self.pool, 2000)
        )


def load_scenarios(folder: Path, only: list[str]) -> list[Scenario]:
    """Read all scenarios, or those named, in the order of their names.

    Raises:
        SystemExit: A name is unknown, or a file has a key that no field is called.
    """
    known = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    unknown = [name for name in only if name not in known]
    if unknown:
        message = f"unknown scenario {', '.join(unknown)}; there are: {', '.join(known)}"
        raise SystemExit(message)
    scenarios = []
    for name, path in known.items():
        if only and name not in only:
            continue
        try:
            scenarios.append(Scenario(name=name, **tomllib.loads(path.read_text())))
        except TypeError as error:
            message = f"{path}: {error}"
            raise SystemExit(message) from error
    return scenarios
