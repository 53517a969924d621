"""How each SDK was held against the server: the rows of the table in README.md.

Three kinds of evidence, best first: the SDK itself was run; requests that it sent to a recording
server were replayed; requests written from its sources were. What passed stands in
`tests/sdk/conformance.json`, which only a test run writes (`make conformance`). tests/tidy checks
that it names the tests, versions and recordings that are there now, so a result can't outlive what
it was of, also where a runtime is missing and its tests are skipped.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.recordings import FOLDER as VECTORS

SDK_TESTS = Path(__file__).resolve().parent.parent / "sdk"
RESULTS = SDK_TESTS / "conformance.json"
ROOT = SDK_TESTS.parent.parent

# By the name that `pytest.mark.conformance` gives: where the tests of an SDK stand.
TEST_FILES = {
    "go": "test_server_sdks.py",
    "node": "test_server_sdks.py",
    "python": "test_python_sdk.py",
    "web": "test_web_sdk.py",
}


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        sdk: As people call it.
        package: What they install, or how.
        run: Its name in `TEST_FILES`, if it runs itself.
        vectors: Its files below `tests/vectors/sdk`, without the suffix.
    """

    sdk: str
    package: str
    run: str | None
    vectors: tuple[str, ...]


ROWS = (
    Row("Web", "`posthog-js`: npm, snippet, behind a reverse-proxy prefix", "web", ("web",)),
    Row("React", "`@posthog/react`, over `posthog-js`", None, ("react",)),
    Row("React Native", "`posthog-react-native`", None, ("react-native",)),
    Row("Node", "`posthog-node`", "node", ("node",)),
    Row("Python", "`posthog`", "python", ("python",)),
    Row("PHP", "`posthog/posthog-php`", None, ("php",)),
    Row("Ruby", "`posthog-ruby`", None, ("derived/posthog-ruby",)),
    Row("Go", "`posthog-go`", "go", ("go",)),
    Row(
        "Java",
        "`posthog-server`; older: `com.posthog.java:posthog`",
        None,
        ("java-server", "derived/posthog-java-legacy"),
    ),
    Row("Rust", "`posthog-rs`", None, ("derived/posthog-rs",)),
    Row("Elixir", "`posthog`", None, ("derived/posthog-elixir",)),
    Row(".NET", "`PostHog`", None, ("derived/posthog-dotnet",)),
    Row("Android", "`posthog-android`, its core", None, ("android-core",)),
    Row("iOS", "`posthog-ios`", None, ("derived/posthog-ios",)),
    Row("Flutter", "`posthog_flutter`, on Android and iOS", None, ("derived/posthog-flutter",)),
    Row("HTTP API", "`curl`", None, ("curl",)),
)


def table() -> Iterator[tuple[str, ...]]:
    """Give the cells of the table in README.md."""
    results = committed()
    for row in ROWS:
        yield (
            row.sdk,
            row.package,
            _run_text(results, row),
            _replayed_text(results, row, derived=False),
            _replayed_text(results, row, derived=True),
        )


def _run_text(results: dict[str, Any], row: Row) -> str:
    if row.run is None:
        return ""
    result = results["run"][row.run]
    return f"{result['version']}: {len(result['tests'])} tests"


def _replayed_text(results: dict[str, Any], row: Row, *, derived: bool) -> str:
    texts = [
        f"{version}: {count}" if (version := vectors_version(name)) else str(count)
        for name in row.vectors
        if name.startswith("derived/") is derived
        for count in (results["replayed"][name],)
    ]
    return "; ".join(texts)


def committed() -> dict[str, Any]:
    """Read what passed when `make conformance` ran last."""
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def vectors_version(name: str) -> str | None:
    """Return the version whose requests a file has; None for what has none."""
    with (VECTORS / f"{name}.jsonl").open(encoding="utf-8") as file:
        version = str(json.loads(file.readline())["meta"]["version"])
    return version if version[0].isdigit() else None


def claims(sdk: str) -> list[str]:
    """List the tests that run an SDK itself."""
    source = (SDK_TESTS / TEST_FILES[sdk]).read_text(encoding="utf-8")
    functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    return sorted(node.name for node in functions if node.name.startswith("test_"))


def locked_version(sdk: str) -> str:
    """Return the version of an SDK that the lock files install."""
    if sdk == "go":
        return _found(r"posthog-go v(\S+)", SDK_TESTS / "go" / "go.mod")
    if sdk == "python":
        return _found(r"(?m)^posthog==([^\s;]+)", ROOT / "requirements" / "dev.txt")
    package = {"node": "posthog-node", "web": "posthog-js"}[sdk]
    lock = json.loads((SDK_TESTS / "node" / "package-lock.json").read_text(encoding="utf-8"))
    return str(lock["packages"][f"node_modules/{package}"]["version"])


def _found(pattern: str, path: Path) -> str:
    match = re.search(pattern, path.read_text(encoding="utf-8"))
    assert match, f"{path.name} does not pin it"
    return match[1]
