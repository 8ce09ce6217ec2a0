"""The simulated network between nodes: what raftpay/raft/transport.py guarantees over TCP, and no more.

Each node dials every other and speaks on the connection it dialled. A connection delivers a prefix of what was sent, in
order; both sides learn of its end at their own time, or not at all; a newer one silences the older. A lost packet is
sent again by TCP, so on a live connection loss is delay. Messages pass the real codec. Faults are brought by faults.py
through `block`, `unblock`, `cut` and `delays`.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from raftpay.raft.messages import Hello, Message, decode, encode
from raftpay.raft.options import RaftOptions
from raftpay.raft.transport import HELLO_TIMEOUT_S, UNACKNOWLEDGED_MS_MAX, PeerEvents, refusal
from raftpay.sim.loop import NodeLoop, Schedule
from raftpay.sim.trace import Trace

DELAYS_S: Final = (0.0002, 0.002)
# TCP's first retransmission after a partition has healed comes within this time.
RETRANSMIT_S: Final = 0.3

DOWN: Final = 0
DIALLING: Final = 1
UP: Final = 2


@dataclass(slots=True, eq=False)
class _Link:
    """One node's way to another, in one life of it.

    epoch: number of the newest dial, unique in the run. queue: sent and not arrived, with the time of arrival; None as
    the message is the end of the connection. is_broken: what is sent now goes nowhere. is_stuck: something sent is not
    acknowledged. is_orphan: the other side lost power; it will refuse what it gets once it is back.
    """

    sender: str
    receiver: str
    options: RaftOptions
    epoch: int = 0
    state: int = DOWN
    pause_s: float = 0.0
    queue: deque[tuple[float, bytes | None]] = field(default_factory=deque)
    last_arrival_s: float = 0.0
    is_broken: bool = False
    is_stuck: bool = False
    is_orphan: bool = False
    hello: Hello | None = None


@dataclass(slots=True, eq=False)
class _Host:
    """One life of a node as the network sees it.

    links: to whom it dials. peers: those of them that it was told to; the others called it (transport.py: guests).
    speakers: the connection on which each peer is heard.
    """

    name: str
    loop: NodeLoop
    options: RaftOptions
    events: PeerEvents
    links: dict[str, _Link] = field(default_factory=dict)
    peers: set[str] = field(default_factory=set)
    speakers: dict[str, int] = field(default_factory=dict)
    is_started: bool = False


class SimLinks:
    """In the place of PeerTransport."""

    def __init__(self, network: "Network", host: _Host, on_send: Callable[[str, Message], None]) -> None:
        self._network, self._host, self._on_send = network, host, on_send

    async def start(self) -> None:
        self._host.is_started = True
        for link in list(self._host.links.values()):
            self._network.dial(link)

    def set_peers(self, peers: Mapping[str, str]) -> None:
        self._network.set_peers(self._host, peers)

    async def stop(self) -> None:
        """Nothing to close: the simulated node ends with its life."""

    def send(self, peer: str, message: Message) -> None:
        self._on_send(peer, message)
        link = self._host.links.get(peer)
        if link is not None:
            self._network.send(link, message)


class Network:
    """All connections. delays_s: from and to how long a message takes, everywhere or, in slow_ways, one way."""

    def __init__(self, schedule: Schedule, rng: random.Random, trace: Trace) -> None:
        self._schedule, self._rng, self._trace = schedule, rng, trace
        self._hosts: dict[str, _Host] = {}
        self._epochs = 0
        self.delays_s = DELAYS_S
        self.slow_ways: dict[tuple[str, str], tuple[float, float]] = {}
        # How many faults block a way at present; no way is in it that none does.
        self._blocked: dict[tuple[str, str], int] = {}
        # The message encoded last: with both followers at the same place, one encoding serves both.
        self._encoded: tuple[Message | None, bytes] = (None, b"")

    # ---- hosts

    def attach(self, loop: NodeLoop, options: RaftOptions, events: PeerEvents) -> _Host:
        """A node begins a life."""
        host = _Host(options.name, loop, options, events)
        self._hosts[options.name] = host
        for other in self._hosts.values():
            link = other.links.get(options.name)
            if link is not None and link.is_orphan:
                self._schedule.after(self._delay_s(other.name, options.name), self._notice_end, link, link.epoch)
        return host

    def set_peers(self, host: _Host, peers: Mapping[str, str]) -> None:
        """A node dials others from now on, and hangs up on those that it no longer does."""
        for name in [name for name in host.links if name not in peers]:
            link = host.links.pop(name)
            if link.state == UP:
                host.events.disconnected(name)
                self._end_queue(link, has_end=True)
            if host.speakers.pop(name, None) is not None:
                host.loop.call_soon(host.events.hung_up, name)
                self._hang_up(name, host.name)
        host.peers = set(peers)
        for name in sorted(peers.keys() - host.links.keys()):
            self._link(host, name)

    def _link(self, host: _Host, name: str) -> None:
        host.links[name] = _Link(host.name, name, host.options)
        if host.is_started:
            self.dial(host.links[name])

    def _hang_up(self, sender: str, receiver: str) -> None:
        """The receiver has closed the connection: the sender's kernel learns of it."""
        host = self._hosts.get(sender)
        link = None if host is None else host.links.get(receiver)
        if link is not None and link.state == UP:
            link.is_broken = True
            self._schedule.after(self._delay_s(receiver, sender), self._notice_end, link, link.epoch)

    def detach(self, name: str, *, is_power_lost: bool) -> None:
        """A node's life ends. A kernel that lives on tells the peers; without power nobody does."""
        host = self._hosts.pop(name, None)
        if host is None:
            return
        for other in self._hosts.values():
            link = other.links.get(name)
            if link is None:
                continue
            link.queue.clear()
            link.is_broken = True
            if link.state == UP:
                if is_power_lost:
                    link.is_orphan = True
                    self._stick(link)
                else:
                    self._schedule.after(self._delay_s(name, other.name), self._notice_end, link, link.epoch)
        for link in host.links.values():
            self._end_queue(link, has_end=not is_power_lost)

    # ---- faults

    def is_blocked(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) in self._blocked

    def block(self, sender: str, receiver: str) -> None:
        self._blocked[sender, receiver] = self._blocked.get((sender, receiver), 0) + 1

    def unblock(self, sender: str, receiver: str) -> None:
        self._blocked[sender, receiver] -= 1
        if self._blocked[sender, receiver]:
            return
        del self._blocked[sender, receiver]
        for way in ((sender, receiver), (receiver, sender)):
            host = self._hosts.get(way[0])
            if host is not None and not self.is_blocked(*way) and not self.is_blocked(*way[::-1]):
                link = host.links.get(way[1])
                if link is None:
                    continue
                link.is_stuck = link.is_orphan
                self._schedule.after(self._rng.uniform(0, RETRANSMIT_S), self._arrive, link, link.epoch)

    def cut(self, sender: str, receiver: str) -> None:
        """A connection breaks: of what is on its way only a first part arrives. Each side learns of it some time."""
        host = self._hosts.get(sender)
        link = None if host is None else host.links.get(receiver)
        if link is None or link.state != UP:
            return
        self._end_queue(link, has_end=self._rng.random() < 0.7)
        link.is_broken = True
        self._schedule.after(self._rng.uniform(0, 0.2), self._notice_end, link, link.epoch)

    def _end_queue(self, link: _Link, *, has_end: bool) -> None:
        for _ in range(self._rng.randint(0, len(link.queue))):
            link.queue.pop()
        if has_end:
            self._push(link, None)

    # ---- connections

    def dial(self, link: _Link) -> None:
        """The dialler of transport.py: dial, say hello, wait for the answer; on failure again, later and later."""
        sender, receiver = link.sender, link.receiver
        if link.state != DOWN or not self._is_current(link):
            return
        self._epochs += 1
        link.state, link.epoch, link.is_broken = DIALLING, self._epochs, False
        link.hello = self._hosts[sender].events.hello(receiver)
        self._schedule.after(HELLO_TIMEOUT_S, self._dial_failed, link, link.epoch)
        if self.is_blocked(sender, receiver) or self.is_blocked(receiver, sender):
            return
        round_trip_s = self._delay_s(sender, receiver) + self._delay_s(receiver, sender)
        if receiver in self._hosts:
            self._schedule.after(round_trip_s, self._say_hello, link, link.epoch)
        else:
            self._schedule.after(round_trip_s, self._dial_failed, link, link.epoch)

    def _dial_failed(self, link: _Link, epoch: int) -> None:
        if link.epoch == epoch and link.state == DIALLING:
            link.state = DOWN
            self._dial_later(link)

    def _dial_later(self, link: _Link) -> None:
        link.pause_s = min(max(link.pause_s * 2, link.options.reconnect_min_s), link.options.reconnect_max_s)
        self._schedule.after(link.pause_s * self._rng.uniform(0.5, 1.0), self.dial, link)

    def _say_hello(self, link: _Link, epoch: int) -> None:
        host = self._hosts.get(link.receiver)
        if host is not None and not self.is_blocked(link.sender, link.receiver):
            host.loop.deliver(self._accept, host, link, epoch)

    def _accept(self, host: _Host, link: _Link, epoch: int) -> None:
        """On the receiver's loop: the newest connection is heard, the older one no more."""
        if link.epoch != epoch or link.state != DIALLING or not self._is_current(link):
            return  # Given up, or of a life that has ended: its end would follow at once.
        assert link.hello is not None
        if refusal(host.events.hello(link.sender), link.hello, host.links):
            self._schedule.after(self._delay_s(link.receiver, link.sender), self._dial_failed, link, epoch)
            return
        host.speakers[link.sender] = epoch
        if link.sender not in host.links:
            self._link(host, link.sender)
        self.dial(host.links[link.sender])
        host.events.introduced(link.hello)
        self._schedule.after(self._delay_s(link.receiver, link.sender), self._accepted, link, epoch)

    def _accepted(self, link: _Link, epoch: int) -> None:
        host = self._hosts.get(link.sender)
        if host is not None and self._is_current(link) and not self.is_blocked(link.receiver, link.sender):
            host.loop.deliver(self._go_up, host, link, epoch)

    def _go_up(self, host: _Host, link: _Link, epoch: int) -> None:
        if link.epoch != epoch or link.state != DIALLING:
            return
        if link.is_broken:  # The other side ended while its answer was on the way.
            self._dial_failed(link, epoch)
            return
        link.state, link.pause_s, link.last_arrival_s = UP, 0.0, 0.0
        link.is_stuck = link.is_orphan = False
        link.queue.clear()
        self._trace.note("up", link.sender, link.receiver)
        host.events.connected(link.receiver)

    def _notice_end(self, link: _Link, epoch: int) -> None:
        """The sender's kernel learns that the connection is gone."""
        host = self._hosts.get(link.sender)
        if host is not None and self._is_current(link):
            host.loop.deliver(self._go_down, host, link, epoch)

    def _go_down(self, host: _Host, link: _Link, epoch: int) -> None:
        if link.epoch != epoch or link.state != UP:
            return
        link.state = DOWN
        self._trace.note("down", link.sender, link.receiver)
        host.events.disconnected(link.receiver)
        self._dial_later(link)

    def _is_current(self, link: _Link) -> bool:
        host = self._hosts.get(link.sender)
        return host is not None and host.links.get(link.receiver) is link

    # ---- messages

    def send(self, link: _Link, message: Message) -> None:
        if link.state != UP:
            return
        if link.is_broken or (self._blocked and self._is_deaf(link)):
            self._stick(link)
            if link.is_broken:
                return
        if self._encoded[0] is not message:
            self._encoded = (message, encode(message))
        self._push(link, self._encoded[1])

    def _is_deaf(self, link: _Link) -> bool:
        """What is sent now is not acknowledged: it does not arrive, or the acknowledgement does not."""
        return self.is_blocked(link.sender, link.receiver) or self.is_blocked(link.receiver, link.sender)

    def _push(self, link: _Link, payload: bytes | None) -> None:
        arrival_s = self._schedule.now_s + self._delay_s(link.sender, link.receiver)
        if arrival_s < link.last_arrival_s:
            arrival_s = link.last_arrival_s
        link.last_arrival_s = arrival_s
        link.queue.append((arrival_s, payload))
        self._schedule.at(arrival_s, self._arrive, link, link.epoch)

    def _stick(self, link: _Link) -> None:
        """Something is not acknowledged: the kernel gives the connection up if that lasts (TCP_USER_TIMEOUT)."""
        if not link.is_stuck:
            link.is_stuck = True
            self._schedule.after(UNACKNOWLEDGED_MS_MAX / 1000, self._give_up, link, link.epoch)

    def _give_up(self, link: _Link, epoch: int) -> None:
        if link.epoch == epoch and link.is_stuck:
            link.is_broken = True
            self._notice_end(link, epoch)

    def _arrive(self, link: _Link, epoch: int) -> None:
        """Hand over what is due, unless the way is blocked: then it stays with the sender's kernel."""
        host, queue = self._hosts.get(link.receiver), link.queue
        if link.epoch != epoch or host is None or self.is_blocked(link.sender, link.receiver):
            return
        while queue and queue[0][0] <= self._schedule.now_s:
            _, payload = queue.popleft()
            host.loop.deliver(self._received, host, link.sender, epoch, payload)

    def _received(self, host: _Host, sender: str, epoch: int, payload: bytes | None) -> None:
        """On the receiver's loop. Nothing of a connection is heard once a newer one has been accepted."""
        if host.speakers.get(sender) != epoch:
            return
        if payload is None:
            del host.speakers[sender]
            host.events.hung_up(sender)
            return
        self._trace.message(sender, host.name, payload)
        host.events.received(sender, decode(payload))

    def _delay_s(self, sender: str, receiver: str) -> float:
        low, high = self.slow_ways.get((sender, receiver), self.delays_s) if self.slow_ways else self.delays_s
        return low + (high - low) * self._rng.random()
