"""Counters of the committer, as Prometheus text. Labels are the tables' names: a closed set."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class TableCounts:
    """What was committed to one table."""

    commits: int = 0
    files: int = 0
    rows: int = 0
    bytes: int = 0
    checkpoints: int = 0
    version: int = 0
    # Why commits are held on its account; None: they are not.
    held: str | None = None
    missing_positions: int = 0


@dataclass(slots=True)
class CommitterMetrics:
    """Counters of one committer. Written by its thread, read by any."""

    tables: dict[str, TableCounts] = field(default_factory=dict)
    failures: int = 0
    cuts_discarded: int = 0
    orphans_removed: int = 0
    cuts: int = 0
    commit_seconds: float = 0.0
    held: bool = False

    def text(self) -> str:
        """Write all of them."""
        lines: list[str] = []
        for noun, kind, description in (
            ("commits", "counter", "Commits that are durable."),
            ("files", "counter", "Files named by commits."),
            ("rows", "counter", "Rows committed."),
            ("bytes", "counter", "Bytes of files committed."),
            ("checkpoints", "counter", "Checkpoints made and read back."),
            ("version", "gauge", "Newest synced version."),
            ("missing_positions", "gauge", "Committed once, not in it any more; commits held."),
        ):
            name = f"penstock_table_{noun}{'_total' if kind == 'counter' else ''}"
            lines += [f"# HELP {name} {description}", f"# TYPE {name} {kind}"]
            lines += [
                f'{name}{{table="{table}"}} {getattr(counts, noun)}'
                for table, counts in sorted(self.tables.items())
            ]
        name = "penstock_table_held"
        lines += [f"# HELP {name} 1: why commits are held.", f"# TYPE {name} gauge"]
        lines += [
            f'{name}{{table="{table}",reason="{counts.held}"}} 1'
            for table, counts in sorted(self.tables.items())
            if counts.held is not None
        ]
        for name, kind, description, value in (
            ("commit_failures_total", "counter", "Cuts to be tried again.", self.failures),
            (
                "cuts_discarded_total",
                "counter",
                "Cuts built anew because a file was lost.",
                self.cuts_discarded,
            ),
            (
                "orphans_removed_total",
                "counter",
                "Files of a crash, named by no table, removed at the start.",
                self.orphans_removed,
            ),
            ("cuts_total", "counter", "Cuts committed to all tables that had rows.", self.cuts),
            ("commit_seconds_total", "counter", "Time spent in cuts.", self.commit_seconds),
            ("commits_held", "gauge", "1: a table is not as we left it.", int(self.held)),
        ):
            full = f"penstock_table_{name}"
            lines += [f"# HELP {full} {description}", f"# TYPE {full} {kind}", f"{full} {value}"]
        return "\n".join(lines) + "\n"
