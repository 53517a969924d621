"""`penstock rejected retry`: sends refused events again, repaired, to a running service.

Each goes in a request of its own, so that the answer is its own: stored (now, or by an earlier
retry), or refused again with its code.
"""

from __future__ import annotations

from functools import partial
from typing import Final, TextIO

from penstock.errors import PenstockError
from penstock.tools.log_view import count_text
from penstock.tools.rejected import EventId, RunQuery, Selection, find_ids, read_events
from penstock.tools.rejected_form import Repair, http_form_of
from penstock.tools.sending import Sender, SendError

# Ids of this many events fit in memory many times over; whoever has more repairs them by the day.
MAX_RETRIED: Final = 100_000

# Texts read at once: each has at most 64 KiB.
_PAGE: Final = 100


def retry(
    run: RunQuery,
    selection: Selection,
    repair: Repair,
    sender: Sender,
    output: TextIO,
    errors: TextIO,
    *,
    limit: int = MAX_RETRIED,
) -> bool:
    """Send the events of a selection to a service, oldest first.

    Returns:
        Whether the service has all of them now.

    Raises:
        PenstockError: An id is unknown, or the service is out of reach: names what was done.
    """
    ids = find_ids(run, selection, errors, limit=None if selection.ids else limit)
    stored = refused = 0
    for start in range(0, len(ids), _PAGE):
        for event in read_events(run, ids[start : start + _PAGE]):
            shown = EventId("", event.log_position, event.batch_index)
            try:
                refusal = sender.send_form(partial(http_form_of, event, repair))
            except SendError as error:
                if not error.of_record:
                    done = f"{stored} stored, {refused} refused before it"
                    raise PenstockError(error.code, f"{shown}: {error}; {done}") from error
                refusal = str(error)
            if refusal is None:
                stored += 1
            else:
                refused += 1
                errors.write(f"refused: {shown}: {refusal}\n")
    output.write(f"{count_text(stored, 'event')} stored, {refused} refused\n")
    if len(ids) == limit and not selection.ids:
        output.write(f"there may be more: this was a run of {limit}\n")
    output.flush()
    return refused == 0
