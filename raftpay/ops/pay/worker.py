"""A worker process: takes batches from its parent, brings them into the ledger through the client, answers. No CSV.

Started by crew.py as `python -m raftpay.ops.pay.worker` with one end of a socketpair as its stdin. It may be killed at
any moment: the parent hands its unanswered batches to another, under the same ids. When the parent is gone, which the
end of the stream says at once, it stops where it stands: whoever runs the file again sends the same ids.
"""

import asyncio
import socket
import sys
from typing import Final

import msgspec

from raftpay.client import AsyncClient
from raftpay.errors import NotCommitted, OutcomeUnknown, Rejected
from raftpay.ledger import Account, Transfer
from raftpay.ops.pay.pipes import Answer, Failure, Message, MessageDecoder, Ready, Start, Submit, encode_message

_READ_BYTES: Final = 256 * 1024

_TRANSFERS: Final = msgspec.msgpack.Decoder(list[Transfer])
_ACCOUNTS: Final = msgspec.msgpack.Decoder(list[Account])


class Worker:
    """One connection to the cluster, and the batches that are on their way through it."""

    def __init__(self, start: Start, client: AsyncClient) -> None:
        self._start = start
        self._client = client

    async def answer(self, batch: Submit) -> Answer | Failure:
        try:
            return Answer(batch.number, await self._submit(batch))
        except NotCommitted as error:
            return Failure(batch.number, str(error), may_have_happened=False, is_final=False)
        except OutcomeUnknown as error:
            return Failure(batch.number, str(error), may_have_happened=True, is_final=False)
        except Rejected as error:
            return Failure(batch.number, str(error), may_have_happened=False, is_final=True)

    async def _submit(self, batch: Submit) -> bytes:
        if self._start.noun == "accounts":
            accounts = _ACCOUNTS.decode(batch.events)
            return (await self._client.create_accounts(accounts, deadline_s=batch.deadline_s)).numbers
        transfers = _TRANSFERS.decode(batch.events)
        return (await self._client.create_transfers(transfers, deadline_s=batch.deadline_s)).numbers


async def serve(link: socket.socket) -> None:
    """Work until the parent closes its end. An unexpected error ends the process, and the parent sees that."""
    reader, writer = await asyncio.open_connection(sock=link)
    decoder = MessageDecoder()
    messages: list[Message] = []
    while not messages:
        data = await _read(reader)
        if not data:
            return
        messages = decoder.feed(data)
    start = messages.pop(0)
    assert isinstance(start, Start), f"the first message is {type(start).__name__}"
    async with AsyncClient(start.addresses) as client, asyncio.TaskGroup() as tasks:
        worker = Worker(start, client)
        writer.write(encode_message(Ready()))

        async def handle(batch: Submit) -> None:
            writer.write(encode_message(await worker.answer(batch)))

        running: set[asyncio.Task[None]] = set()
        while True:
            for message in messages:
                assert isinstance(message, Submit), f"the parent sent {type(message).__name__}"
                running.add(task := tasks.create_task(handle(message)))
                task.add_done_callback(running.discard)
            data = await _read(reader)
            if not data:
                break
            messages = decoder.feed(data)
        for task in running:
            task.cancel()
    writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """What has arrived; nothing when the parent is gone, whether it closed its end or was killed in the midst."""
    try:
        return await reader.read(_READ_BYTES)
    except ConnectionError:
        return b""


def main() -> None:
    link = socket.socket(fileno=sys.stdin.fileno())
    asyncio.run(serve(link))


if __name__ == "__main__":
    main()
