"""A small service that makes the same promise the usual way: one file sync for each request.

FastAPI, orjson, uvicorn with uvloop and httptools, one worker. It reads the body's events, appends
them as lines to a file, syncs the file, and answers. It checks nothing else: no deduplication, no
table, no gzip. `bench/run.py` starts it; `PEER_DATA_DIR` names the folder, `PEER_PORT` the port.
"""

import os
from pathlib import Path

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

_ANSWER = b'{"status":"Ok"}'

app = FastAPI()
_file = os.open(
    Path(os.environ["PEER_DATA_DIR"]) / "events.ndjson",
    os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    0o644,
)


@app.post("/batch/")
async def batch(request: Request) -> Response:
    """Store the events of one request; they are on disk when it answers."""
    body = orjson.loads(await request.body())
    lines = b"".join(
        orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in body["batch"]
    )
    view = memoryview(lines)
    while view:
        view = view[os.write(_file, view) :]
    os.fsync(_file)
    return Response(_ANSWER, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
