"""The Python client of the gRPC API.

async with AsyncIngestClient("127.0.0.1:8001", token="my-project") as client:
    result = await client.append([{"event": "signup", "distinct_id": "42", "uuid": …}])
"""

from penstock.client.aio import AsyncIngestClient
from penstock.client.errors import AppendError
from penstock.client.messages import AppendResult, EventException

__all__ = ["AppendError", "AppendResult", "AsyncIngestClient", "EventException"]
