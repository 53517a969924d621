"""The results of the SDKs are of the tests, versions and recordings that are here now.

Where a runtime is missing, the tests of its SDK are skipped; what was found of it elsewhere counts
for as long as nothing of this has changed.
"""

import pytest

from support.conformance import ROWS, TEST_FILES, claims, committed, locked_version
from support.recordings import FOLDER

AGAIN = "run `make conformance` where this SDK can run"


@pytest.mark.parametrize("sdk", TEST_FILES)
def test_result_is_of_the_tests_and_the_version_of_now(sdk: str) -> None:
    result = committed()["run"][sdk]
    assert result["tests"] == claims(sdk), AGAIN
    assert result["version"] == locked_version(sdk), AGAIN


def test_every_sdk_has_evidence_and_all_evidence_is_in_a_row() -> None:
    assert all(row.run or row.vectors for row in ROWS)
    assert {row.run for row in ROWS if row.run} == set(TEST_FILES)
    recorded = {
        path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.jsonl")
    }
    assert {name for row in ROWS for name in row.vectors} == recorded
    assert set(committed()["replayed"]) == recorded
