"""The configuration of a cluster: one TOML file, the same on every node, read strictly.

Every key, its type, its range and its default stand here and nowhere else; `cluster.example.toml` shows them to people,
and a test holds the two together. The values are plain: `node` hands them on to the rooms that need them. Nothing here
opens a socket or touches a data directory. Called by the command line, by `node` and by tests.
"""

import dataclasses
import difflib
import ipaddress
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from raftpay.errors import ConfigError

KIB: Final = 1024
MIB: Final = 1024 * 1024
CLUSTER_SIZES: Final = (3, 5)
# While nodes come and go there may be others for a while.
NODES_MIN: Final = 3
NODES_MAX: Final = 7
# What a command adds to the bytes of the one request in it: version, time, array headers (truly under 64 bytes).
COMMAND_OVERHEAD_BYTES_MAX: Final = 1 * KIB

_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
_NAME_FORM: Final = "1 to 32 of a-z, 0-9 and -"

_Section = TypeVar(
    "_Section", "RaftConfig", "LimitsConfig", "CommitConfig", "JournalConfig", "SnapshotConfig", "ScrubConfig"
)


def _setting(default: float, low: float, high: float) -> Any:  # Any: dataclasses.field() is typed as its default
    """A number with its range, both ends inclusive. An int default makes the key an int, a float default a number."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node. peer and client are "host:port"; data is an absolute path.

    joins: it is added to a cluster that runs, and takes no part in founding one.
    """

    name: str
    peer: str
    client: str
    data: Path
    joins: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftConfig:
    """Times and sizes of the consensus engine. See raftpay.raft.options for what it makes of them."""

    election_timeout_min_s: float = _setting(0.3, 0.02, 60.0)
    election_timeout_max_s: float = _setting(0.6, 0.03, 120.0)
    heartbeat_s: float = _setting(0.05, 0.005, 10.0)
    append_bytes_max: int = _setting(1 * MIB, 4 * KIB, 64 * MIB)
    window_bytes_max: int = _setting(16 * MIB, 64 * KIB, 1024 * MIB)
    # On a stop: how long the leader waits for another node to take over.
    transfer_timeout_s: float = _setting(2.0, 0.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """What one client, and all of them together, may ask of a node."""

    connections_max: int = _setting(1000, 1, 100_000)
    requests_in_flight_max: int = _setting(256, 1, 65_536)
    message_bytes_max: int = _setting(8 * MIB, 4 * KIB, 64 * MIB)
    queue_requests_max: int = _setting(20_000, 1, 1_000_000)
    queue_bytes_max: int = _setting(128 * MIB, 64 * KIB, 4096 * MIB)
    request_timeout_s: float = _setting(5.0, 0.05, 600.0)
    # On a stop: how long what is in flight may take to finish, and then a snapshot.
    stop_timeout_s: float = _setting(5.0, 0.0, 600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitConfig:
    """How requests are grouped into log entries."""

    commands_in_flight_max: int = _setting(1, 1, 64)
    command_events_max: int = _setting(8190, 1, 8190)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalConfig:
    """Sizes of the journal on disk and of its tail in memory."""

    segment_bytes: int = _setting(16 * MIB, 1 * MIB, 1024 * MIB)
    cache_bytes: int = _setting(8 * MIB, 1 * MIB, 4096 * MIB)
    reserve_bytes: int = _setting(16 * MIB, 0, 4096 * MIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotConfig:
    """When the state is written whole so that the journal can drop what is behind it, and how peers fetch it."""

    log_bytes_max: int = _setting(16 * MIB, 64 * KIB, 65_536 * MIB)
    tail_bytes: int = _setting(16 * MIB, 0, 65_536 * MIB)
    fetch_rate_bytes_max: int = _setting(32 * MIB, 64 * KIB, 65_536 * MIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubConfig:
    """How often, and how fast, a node reads again what lies on its disk. rate_bytes_max: 0 for never."""

    interval_s: float = _setting(86_400.0, 0.01, 31_536_000.0)
    rate_bytes_max: int = _setting(4 * MIB, 0, 4096 * MIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """A whole file, checked. nodes are in the order of the file, by name."""

    path: Path
    cluster_id: str
    nodes: Mapping[str, NodeConfig]
    raft: RaftConfig = dataclasses.field(default_factory=RaftConfig)
    limits: LimitsConfig = dataclasses.field(default_factory=LimitsConfig)
    commit: CommitConfig = dataclasses.field(default_factory=CommitConfig)
    journal: JournalConfig = dataclasses.field(default_factory=JournalConfig)
    snapshot: SnapshotConfig = dataclasses.field(default_factory=SnapshotConfig)
    scrub: ScrubConfig = dataclasses.field(default_factory=ScrubConfig)

    @property
    def entry_bytes_max(self) -> int:
        """The longest log entry in bytes: whatever fits into a message fits into an entry."""
        return self.limits.message_bytes_max + COMMAND_OVERHEAD_BYTES_MAX

    def node(self, name: str) -> NodeConfig:
        """The node of that name. Raises ConfigError that lists the names there are."""
        if name not in self.nodes:
            raise ConfigError(
                f"{self.path}: there is no node {name!r}{_nearest(name, self.nodes)}; "
                f"the nodes are {_listed(self.nodes)}"
            )
        return self.nodes[name]


def load(path: Path | str) -> ClusterConfig:
    """Read and check a cluster file.

    Raises ConfigError that names the file, the key, what was found and what was expected.
    """
    path = Path(path).absolute()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); "
            "`raftpay up` makes a cluster file, or copy cluster.example.toml"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    return parse(text, path)


def parse(text: str, path: Path) -> ClusterConfig:
    """Check the text of a cluster file. path names it in messages, and data folders are relative to its folder."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    reader = _Reader(path)
    reader.check_keys("", document, ("cluster", "nodes", "raft", "limits", "commit", "journal", "snapshot", "scrub"))
    cluster = reader.table("cluster", document)
    reader.check_keys("cluster", cluster, ("id",))
    config = ClusterConfig(
        path=path,
        cluster_id=reader.text("cluster", "id", cluster, form=_NAME, expected=_NAME_FORM),
        nodes=_nodes(reader, reader.table("nodes", document)),
        raft=reader.section(RaftConfig, "raft", document),
        limits=reader.section(LimitsConfig, "limits", document),
        commit=reader.section(CommitConfig, "commit", document),
        journal=reader.section(JournalConfig, "journal", document),
        snapshot=reader.section(SnapshotConfig, "snapshot", document),
        scrub=reader.section(ScrubConfig, "scrub", document),
    )
    _check_relations(reader, config)
    return config


def render_local(*, cluster_id: str, ports: Sequence[tuple[int, int]]) -> str:
    """The text of a new cluster file for nodes n1, n2 … on this machine, all other keys at their defaults.

    ports: for each node its port for peers and its port for clients.
    Raises ConfigError when what would come out cannot be loaded.
    """
    lines = [
        "# Made by `raftpay up`. All other keys are at their defaults: cluster.example.toml lists and explains them.",
        "[cluster]",
        f"id = {json.dumps(cluster_id)}",
    ]
    for number, (peer, client) in enumerate(ports, start=1):
        lines += [
            "",
            f"[nodes.n{number}]",
            f'peer = "127.0.0.1:{peer}"',
            f'client = "127.0.0.1:{client}"',
            f'data = "n{number}"',
        ]
    text = "\n".join(lines) + "\n"
    parse(text, Path("new cluster.toml"))
    return text


def split_address(address: str) -> tuple[str, int]:
    """("127.0.0.1", 7101) of "127.0.0.1:7101"; the brackets of an IPv6 host are taken off. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"not a host:port: {address!r}")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise ValueError(f"not a host:port: {address!r}")
    return host, int(port)


class _Reader:
    """Takes typed values out of TOML tables, and words every complaint alike. `where` is a table's dotted name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def error(self, where: str, key: str, message: str) -> ConfigError:
        place = f"[{where}] {key}" if where and key else f"[{where}]" if where else key
        return ConfigError(f"{self.path}: {place}: {message}")

    def check_keys(self, where: str, table: Mapping[str, object], known: Iterable[str]) -> None:
        known = tuple(known)
        for key in table:
            if key not in known:
                kind = "key" if where else "section"
                raise self.error(where, key, f"unknown {kind}{_nearest(key, known)}; known are {_listed(known)}")

    def table(self, name: str, parent: Mapping[str, object], *, where: str = "") -> dict[str, object]:
        dotted = f"{where}.{name}" if where else name
        value = parent.get(name)
        if value is None:
            raise self.error(dotted, "", "this section is missing")
        if not isinstance(value, dict):
            raise self.error(where, name, f"found {_shown(value)}, expected a section [{dotted}]")
        return value

    def text(self, where: str, key: str, table: Mapping[str, object], *, form: re.Pattern[str], expected: str) -> str:
        value = table.get(key)
        if value is None:
            raise self.error(where, key, f"is missing, expected {expected}")
        if not isinstance(value, str) or not form.fullmatch(value):
            raise self.error(where, key, f"found {_shown(value)}, expected {expected}")
        return value

    def section(self, kind: type[_Section], name: str, document: Mapping[str, object]) -> _Section:
        """A section of numbers, all of them optional."""
        table = self.table(name, document) if name in document else {}
        fields = {field.name: field for field in dataclasses.fields(kind)}
        self.check_keys(name, table, fields)
        return kind(**{key: self._number(name, fields[key], value) for key, value in table.items()})

    def _number(self, where: str, field: "dataclasses.Field[Any]", value: object) -> Any:  # Any: int or float by field
        whole = isinstance(field.default, int)
        low, high = field.metadata["low"], field.metadata["high"]
        # A TOML boolean is a Python int, and nan is in no range.
        if isinstance(value, int if whole else int | float) and not isinstance(value, bool) and low <= value <= high:
            return value if whole else float(value)
        kind = "a whole number" if whole else "a number"
        raise self.error(where, field.name, f"found {_shown(value)}, expected {kind} from {low} to {high}")


def _nodes(reader: _Reader, tables: Mapping[str, object]) -> dict[str, NodeConfig]:
    joining = [name for name, table in tables.items() if isinstance(table, dict) and table.get("joins") is True]
    if len(tables) not in CLUSTER_SIZES and not (joining and NODES_MIN <= len(tables) <= NODES_MAX):
        raise reader.error(
            "nodes",
            "",
            f"found {len(tables)} nodes, expected 3 or 5: two survive no failure, four no more failures than three. "
            "A node that joins a running cluster (`raftpay member add`) is marked with `joins = true`",
        )
    nodes: dict[str, NodeConfig] = {}
    taken: dict[str, str] = {}
    for name in tables:
        where = f"nodes.{name}"
        if not _NAME.fullmatch(name):
            raise reader.error("nodes", name, f"is no name of a node, expected {_NAME_FORM}")
        table = reader.table(name, tables, where="nodes")
        reader.check_keys(where, table, ("peer", "client", "data", "joins"))
        data = reader.text(where, "data", table, form=re.compile(r"[^\0]+"), expected="a folder")
        node = NodeConfig(
            name=name,
            peer=_address(reader, where, "peer", table),
            client=_address(reader, where, "client", table),
            data=(reader.path.parent / data).resolve(),
            joins=_flag(reader, where, "joins", table),
        )
        for key, value in (("peer", node.peer), ("client", node.client), ("data", str(node.data))):
            identity = value.replace("localhost:", "127.0.0.1:")
            if identity in taken:
                raise reader.error(where, key, f"{value} is taken by {taken[identity]}, expected one of its own")
            taken[identity] = f"[{where}] {key}"
        nodes[name] = node
    return nodes


def _flag(reader: _Reader, where: str, key: str, table: Mapping[str, object]) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise reader.error(where, key, f"found {_shown(value)}, expected true or false")
    return value


_ADDRESS_FORM: Final = '"host:port" such as "127.0.0.1:7101"'


def _address(reader: _Reader, where: str, key: str, table: Mapping[str, object]) -> str:
    address = reader.text(where, key, table, form=re.compile(r".+"), expected=_ADDRESS_FORM)
    complaint = address_complaint(address)
    if complaint:
        raise reader.error(where, key, complaint)
    return address


def address_complaint(address: str) -> str:
    """What is wrong with an address that a node is to have; "" if nothing is."""
    try:
        host, _ = split_address(address)
    except ValueError:
        return f"found {_shown(address)}, expected {_ADDRESS_FORM}"
    if not _is_loopback(host):
        return (
            f"found {_shown(address)}, expected a loopback address (127.0.0.1, ::1, localhost): "
            "connections are not encrypted yet, so a node listens to its own machine only"
        )
    return ""


def name_complaint(name: str) -> str:
    """What is wrong with the name of a node; "" if nothing is."""
    return "" if _NAME.fullmatch(name) else f"found {_shown(name)}, expected {_NAME_FORM}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_relations(reader: _Reader, config: ClusterConfig) -> None:
    """What two keys owe each other."""
    raft, limits = config.raft, config.limits
    if raft.election_timeout_max_s < raft.election_timeout_min_s * 1.25:
        raise reader.error(
            "raft",
            "election_timeout_max_s",
            f"found {raft.election_timeout_max_s}, expected at least 1.25 times election_timeout_min_s "
            f"({raft.election_timeout_min_s}): the spread keeps nodes from standing at the same moment",
        )
    if raft.heartbeat_s * 3 >= raft.election_timeout_min_s:
        raise reader.error(
            "raft",
            "heartbeat_s",
            f"found {raft.heartbeat_s}, expected less than a third of election_timeout_min_s "
            f"({raft.election_timeout_min_s}): a lost heartbeat or two must not start an election",
        )
    if limits.queue_bytes_max < limits.message_bytes_max:
        raise reader.error(
            "limits",
            "queue_bytes_max",
            f"found {limits.queue_bytes_max}, expected at least message_bytes_max ({limits.message_bytes_max})",
        )


def _nearest(key: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    return f", did you mean {matches[0]!r}" if matches else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _shown(value: object) -> str:
    """A value of TOML in its own spelling, as far as it is short."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return "an array"
    return json.dumps(value, default=str) if isinstance(value, str | bool) else str(value)
