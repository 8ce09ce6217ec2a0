"""What `raftpay check` makes of nodes that agree, differ, lag, do not balance, do not answer, or are no nodes."""

import json
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from raftpay.errors import NotCommitted
from raftpay.ops.check import check_books
from raftpay.wire.rpc import RpcDecoder, RpcRequest, encode_response
from raftpay_cli.root import root

NOWHERE = "127.0.0.1:1"


class SpokenNode(socketserver.ThreadingTCPServer):
    """Speaks the client protocol and gives the answers it was told to, the last one again and again.

    digests: (applied index, digest) of each round. debits, credits: its trial balance in EUR.
    """

    daemon_threads = True

    def __init__(self, digests: Sequence[tuple[int, str]], *, debits: int = 500, credits_posted: int = 500) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.digests = list(digests)
        self.totals = {
            "currency": "EUR",
            "accounts": 2,
            "debits_pending": 0,
            "debits_posted": debits,
            "credits_pending": 0,
            "credits_posted": credits_posted,
        }

    def answer(self, method: str) -> dict[str, Any]:
        if method == "trial_balance":
            return {"index": self.digests[0][0], "totals": [self.totals]}
        assert method == "state_digest"
        index, digest = self.digests[0]
        if len(self.digests) > 1:
            self.digests.pop(0)
        return {"index": index, "digest": digest}


class _Conversation(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, SpokenNode)
        decoder = RpcDecoder()
        while data := self.request.recv(65536):
            for message in decoder.feed(data):
                assert isinstance(message, RpcRequest)
                self.request.sendall(encode_response(message.message_id, self.server.answer(message.method)))


class _WebServer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(65536)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@contextmanager
def listening(*servers: socketserver.TCPServer) -> Iterator[dict[str, str]]:
    """Let them serve; gives their addresses by the names n1, n2 …"""
    with ExitStack() as stack:
        addresses = {}
        for number, server in enumerate(servers, start=1):
            stack.enter_context(server)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            addresses[f"n{number}"] = f"127.0.0.1:{server.server_address[1]}"
        yield addresses


def test_nodes_with_equal_books_are_good() -> None:
    with listening(SpokenNode([(7, "aa")]), SpokenNode([(7, "aa")]), SpokenNode([(7, "aa")])) as addresses:
        outcome = check_books(addresses, deadline_s=5)

    assert outcome.is_good
    assert outcome.index == 7
    assert outcome.digests == {"n1": "aa", "n2": "aa", "n3": "aa"}


def test_different_digests_at_one_index_are_found() -> None:
    with listening(SpokenNode([(7, "aa")]), SpokenNode([(7, "bb")]), SpokenNode([(7, "aa")])) as addresses:
        outcome = check_books(addresses, deadline_s=5)

    assert outcome.is_balanced
    assert not outcome.has_equal_digests
    assert not outcome.is_good


def test_books_that_do_not_balance_are_found_even_if_all_nodes_agree() -> None:
    with listening(*(SpokenNode([(7, "aa")], debits=501) for _ in range(3))) as addresses:
        outcome = check_books(addresses, deadline_s=5)

    assert outcome.has_equal_digests
    assert not outcome.is_balanced
    assert not outcome.is_good


def test_it_waits_until_a_node_that_lags_has_caught_up() -> None:
    lagging = SpokenNode([(3, "x3"), (5, "x5"), (9, "x9")])
    with listening(SpokenNode([(9, "x9")]), lagging) as addresses:
        outcome = check_books(addresses, deadline_s=5)

    assert outcome.index == 9
    assert outcome.is_good


def test_nodes_that_never_stand_still_are_compared_at_an_index_where_both_were_seen() -> None:
    ahead = SpokenNode([(4, "x4"), (6, "x6"), (8, "x8"), (10, "x10")])
    behind = SpokenNode([(3, "x3"), (4, "other"), (7, "x7"), (9, "x9")])
    with listening(ahead, behind) as addresses:
        outcome = check_books(addresses, deadline_s=5)

    assert outcome.index == 4
    assert not outcome.has_equal_digests


def test_nodes_that_are_never_seen_at_one_index_prove_nothing() -> None:
    nodes = [SpokenNode([(9, "x9")]), SpokenNode([(3, "x3")])]
    with listening(*nodes) as addresses, pytest.raises(NotCommitted, match="n1 9, n2 3"):
        check_books(addresses, deadline_s=0.3)


def test_a_node_that_does_not_answer_is_left_out_and_named() -> None:
    with listening(SpokenNode([(7, "aa")]), SpokenNode([(7, "aa")])) as addresses:
        outcome = check_books({**addresses, "n3": NOWHERE}, deadline_s=5)

    assert outcome.is_good
    assert outcome.unreachable == ["n3"]
    assert set(outcome.digests) == {"n1", "n2"}


def test_without_any_answer_there_is_no_verdict() -> None:
    with pytest.raises(NotCommitted, match=rf"no node answers: n1 \({NOWHERE}\)"):
        check_books({"n1": NOWHERE}, deadline_s=0.3)


def test_a_server_of_another_kind_is_no_node_and_said_to_be_none() -> None:
    web_server = socketserver.TCPServer(("127.0.0.1", 0), _WebServer)
    with listening(SpokenNode([(7, "aa")]), web_server) as addresses:
        outcome = check_books(addresses, deadline_s=5)
        words = [word for address in addresses.values() for word in ("--address", address)]
        status = CliRunner().invoke(root, [*words[2:], "status"])

    assert outcome.unreachable == ["n2"]
    assert "does not speak MessagePack-RPC" in str(outcome.nodes[1].problem)
    assert "does not speak MessagePack-RPC" in status.stdout


@pytest.mark.parametrize(
    ("second", "debits", "said", "failing"),
    [
        ("bb", 500, "The nodes keep different books", "has_equal_digests"),
        ("aa", 499, "The books do not balance", "is_balanced"),
    ],
)
def test_the_command_ends_with_1_on_any_difference(second: str, debits: int, said: str, failing: str) -> None:
    with listening(SpokenNode([(7, "aa")]), SpokenNode([(7, second)], debits=debits)) as addresses:
        words = [word for address in addresses.values() for word in ("--address", address)]
        table = CliRunner().invoke(root, [*words, "check"])
        as_json = CliRunner().invoke(root, [*words, "check", "--json"])

    assert table.exit_code == as_json.exit_code == 1
    assert said in table.stdout
    assert "differs" in table.stdout
    value = json.loads(as_json.stdout)
    assert value["is_good"] is False
    assert value[failing] is False
