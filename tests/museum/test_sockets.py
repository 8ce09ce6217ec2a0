"""S6 and the open doors, stock and ours: who may say what on the peer port.

S6 of ours: test_the_newest_connection_of_a_peer_silences_the_older_one (test_transport). What unpacks to any size:
frames are not compressed, and test_a_frame_over_the_limit_is_refused_before_it_is_received (wire/test_frames).
"""

import asyncio
import os
import pickle
import resource
import socket
from pathlib import Path

import msgspec
import pytest

from raftpay.errors import ProtocolError
from raftpay.raft.messages import HelloReply, RequestVote, decode, encode
from raftpay.wire.frames import encode_frame
from tests.museum.exhibits import exhibits, show
from tests.raft.lab import Lab
from tests.raft.test_transport import Peer, dial, hello_from, receive, with_peers


@pytest.mark.parametrize("exhibit", exhibits("sockets"))
def test_stock_breaks(exhibit: str, tmp_path: Path) -> None:
    show("sockets", exhibit, tmp_path)


class Intruder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (Path.write_text, (self.path, "code of a stranger ran here"))


def test_open_a_pickle_is_no_message_and_in_an_entry_only_bytes(lab: Lab, tmp_path: Path) -> None:
    pickled = pickle.dumps(Intruder(tmp_path / "intruder"))

    with pytest.raises(ProtocolError):
        decode(pickled)
    lab.elect("n1")
    lab.propose(pickled)
    lab.run_s(0.2)

    assert lab.acknowledged == [pickled]
    lab.check_outcome()
    assert not (tmp_path / "intruder").exists()


@pytest.mark.parametrize("words", [["remove", "n2"], ["transfer"], "readonly", ["status"]], ids=str)
def test_open_a_stranger_has_no_commands_and_reads_nothing(words: object) -> None:
    async def test(peers: list[Peer]) -> None:
        reader, writer = await dial(peers[0])

        writer.write(encode_frame(msgspec.msgpack.encode(words)))

        assert await reader.read() == b""
        writer.close()

    with_peers(test, started=1)


def test_open_today_a_caller_who_claims_a_members_name_is_believed_but_is_sent_nothing() -> None:
    """There is no TLS yet; the cluster file refuses addresses other than loopback until there is."""

    async def test(peers: list[Peer]) -> None:
        reader, writer = await dial(peers[0])
        writer.write(encode_frame(encode(hello_from("n2", "n1"))))
        assert await receive(reader) == HelloReply("")

        vote = RequestVote(9, 9, 9)
        writer.write(encode_frame(encode(vote)))
        assert await peers[0].wait_event("received", "n2") == vote
        peers[0].transport.send("n2", vote)
        writer.write_eof()

        assert await reader.read() == b""
        writer.close()

    with_peers(test, started=1)


def test_open_the_port_is_there_again_when_descriptors_are() -> None:
    async def test(peers: list[Peer]) -> None:
        is_short = asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: is_short.set())
        host, _, port = peers[0].options.peers["n1"].rpartition(":")
        callers = [socket.socket() for _ in range(4)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        next_descriptor = os.dup(0)
        os.close(next_descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_descriptor, hard))
        try:
            for caller in callers:
                caller.connect((host, int(port)))
            await is_short.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for caller in callers:
            caller.close()

        reader, writer = await dial(peers[0])
        writer.write(encode_frame(encode(hello_from("n2", "n1"))))

        assert await receive(reader) == HelloReply("")
        writer.close()

    with_peers(test, started=1)
