"""Why a commit did not happen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock.table.ranges import Range


class CommitFailedError(PenstockError):
    """The commit did not land, or it is not known yet whether it did. The same cut is tried again.

    The next try reads the table anew and decides by its transactions (TAB-1).
    """

    retryable = True


class CutFilesLostError(CommitFailedError):
    """A file of the cut is gone or cut short: this cut can never be committed.

    Its rows are in the log still: the core builds them again, under new names.
    """


class HoldCommitsError(PenstockError):
    """The table is not as we left it: committing or releasing more could lose or double rows.

    Events go on being acknowledged; they wait in the log until a person has decided.

    Attributes:
        missing: What was committed and is no longer there, as far as that is known.
    """

    def __init__(self, code: str, message: str, missing: Iterable[Range] = ()) -> None:
        super().__init__(code, message)
        self.missing = tuple(missing)


def passes_by_itself(error: BaseException) -> bool:
    """Tell whether an error of the library or the system may be gone at the next try.

    The library raises OSError for what the file system answered (too many open files, no space, a
    disk that hiccups), and errors of its own for what it could not make sense of.
    """
    return isinstance(error, OSError | MemoryError) or "(os error " in str(error)
