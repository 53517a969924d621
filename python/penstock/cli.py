"""The commands. Exit codes: 0 fine, 1 failure, 2 bad usage or configuration, 3 data directory."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from penstock import __version__
from penstock.cli_output import FORMATS, write_rows
from penstock.config import Kind, Settings, specs, value_text
from penstock.config_loading import check_ready_file, check_static_dir, load_settings
from penstock.errors import ConfigError, DataDirectoryError, PenstockError
from penstock.logs import configure, logger
from penstock.tools.commands import add_wal_command, run_wal
from penstock.tools.ledger_commands import add_ledger_command, run_ledger
from penstock.tools.rejected_commands import add_rejected_command, run_rejected
from penstock.tools.table_commands import add_table_command, run_table

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_DATA_DIRECTORY: Final = 3


_TOOLS: Final = {
    "wal": run_wal,
    "table": run_table,
    "rejected": run_rejected,
    "ledger": run_ledger,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ConfigError as error:
        return _fail(EXIT_USAGE, str(error))
    except DataDirectoryError as error:
        return _fail(EXIT_DATA_DIRECTORY, str(error))
    except PenstockError as error:
        return _fail(EXIT_FAILURE, str(error))
    except KeyboardInterrupt:
        return EXIT_FAILURE
    except BrokenPipeError:
        # `penstock query … | head` ends early: nothing more to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE


def _run(options: argparse.Namespace) -> int:
    if options.version:
        sys.stdout.write(version_text() + "\n")
        return EXIT_OK
    if options.command is None:
        _parser().print_usage(sys.stderr)
        return EXIT_USAGE
    settings = _settings(options)
    if options.command == "serve":
        return _serve(settings, lambda: _settings(options))
    if options.command == "query":
        return _query(settings, options.sql, options.format)
    if options.command in _TOOLS:
        return _TOOLS[options.command](options, settings)
    return _config(settings, options.action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="penstock",
        description="Takes product events and makes them a table.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print version, profile, features")
    commands = parser.add_subparsers(dest="command", metavar="command")

    serve = commands.add_parser("serve", help="run the service", allow_abbrev=False)
    _add_setting_flags(serve)

    query = commands.add_parser(
        "query", help="run SQL over the table and what is not yet in it", allow_abbrev=False
    )
    query.add_argument("sql", metavar="SQL")
    query.add_argument("--format", choices=FORMATS, default="table")
    _add_setting_flags(query, only=("data_dir", "query_tail_memory_bytes"))

    add_wal_command(commands, _add_setting_flags)
    add_table_command(commands, _add_setting_flags)
    add_rejected_command(commands, _add_setting_flags)
    add_ledger_command(commands, _add_setting_flags)

    config = commands.add_parser("config", help="look at the settings", allow_abbrev=False)
    actions = config.add_subparsers(dest="action", metavar="action", required=True)
    for action, description in (
        ("check", "read and check all settings"),
        ("show", "print the settings in force"),
    ):
        _add_setting_flags(actions.add_parser(action, help=description, allow_abbrev=False))
    return parser


def _add_setting_flags(parser: argparse.ArgumentParser, only: Sequence[str] | None = None) -> None:
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    for name, spec in specs().items():
        if only is None or name in only:
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                action="append" if spec.kind is Kind.PATHS else "store",
                metavar=spec.kind.value.upper(),
                help=spec.reason.replace("%", "%%"),
            )


def _settings(options: argparse.Namespace) -> Settings:
    given = {name: getattr(options, name, None) for name in specs()}
    return load_settings(
        # What was repeated is one list, as the environment would have it.
        flags={
            name: ",".join(value) if isinstance(value, list) else value
            for name, value in given.items()
        },
        environment=os.environ,
        config_path=Path(options.config) if options.config else None,
    )


def _serve(settings: Settings, load: Callable[[], Settings]) -> int:
    # The core's allocator reads these when the core is loaded. Huge pages made it hold 25 to 35 MB
    # more, at the same speed. What is free goes back to the system after a second: after a quarter
    # it held 17 MB less, but pages that are soon needed again came and went, mostly in the middle
    # of decoding. By turns, medians: 89,000 events stored a CPU second instead of 101,000, and
    # p99 at half load 2.6 ms instead of 2.2. Ten seconds bring no more.
    os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "1000")
    import uvloop  # noqa: PLC0415 - only serving needs it

    from penstock import _core  # noqa: PLC0415 - the other commands work without
    from penstock.app import serve  # noqa: PLC0415 - slow to import
    from penstock.scheduling import schedule_in_batches  # noqa: PLC0415 - only serving needs it

    allowed = os.environ.get("PENSTOCK_ALLOW_TESTING") == "1"
    if refuses_build(_core.BUILD_FEATURES, allowed=allowed):
        return _fail(EXIT_USAGE, "this build has test features; set PENSTOCK_ALLOW_TESTING=1")
    check_ready_file(settings)
    check_static_dir(settings)
    configure(settings.log_format, settings.log_level)
    # Before any thread is started: they inherit it.
    schedule_in_batches()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(settings, load=load))
        except PenstockError:
            raise
        except Exception:  # noqa: BLE001 - a bug: it ends the process, and the log says why
            logger("app").exception("failed")
            return EXIT_FAILURE
    return EXIT_OK


def refuses_build(features: Sequence[str], *, allowed: bool) -> bool:
    """Tell whether a build must not serve: its faults can be switched on from outside."""
    return "testing" in features and not allowed


def _query(settings: Settings, sql: str, output_format: str) -> int:
    from penstock.table.query import run_query  # noqa: PLC0415 - slow to import

    tail_memory_bytes = settings.query_tail_memory_bytes
    try:
        result = run_query(settings.data_dir, sql, tail_memory_bytes=tail_memory_bytes)
    except PenstockError:
        raise
    except Exception as error:  # noqa: BLE001 - of the SQL engine: the user's own SQL, mostly
        return _fail(EXIT_FAILURE, str(error))
    for warning in result.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    write_rows(sys.stdout, result.columns, result.rows, output_format)
    sys.stdout.flush()
    return EXIT_OK


def _config(settings: Settings, action: str) -> int:
    if action == "show":
        for name, spec in specs().items():
            text = value_text(getattr(settings, name), spec.kind)
            sys.stdout.write(f"{name} = {text}\n")
    else:
        check_ready_file(settings)
        check_static_dir(settings)
        sys.stdout.write("ok\n")
    return EXIT_OK


def version_text() -> str:
    """Write version, build profile and features."""
    try:
        from penstock import _core  # noqa: PLC0415 - may not be built
    except ImportError:
        return f"penstock {__version__} (core not built)"
    features = ",".join(_core.BUILD_FEATURES) or "none"
    return f"penstock {__version__} (profile: {_core.BUILD_PROFILE}, features: {features})"


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"penstock: {message}\n")
    return code
