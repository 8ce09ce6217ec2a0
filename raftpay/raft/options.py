"""The engine's settings, checked once. The node fills them from the cluster's TOML file."""

from dataclasses import dataclass, field

from raftpay.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RaftOptions:
    """Times in seconds, sizes in bytes.

    name: this node. peers: the peer addresses "host:port" by name that the cluster file gives, this node's included;
    they go before those in the log's configuration, which stand for nodes that the file does not know.
    clients: client addresses by name, told to the others. founders: the members of the first configuration.
    command_version: the newest that this node can apply.
    election_timeout_min_s, _max_s: a follower that hears nothing for a random time between them stands for election.
    heartbeat_s: how often an idle leader speaks; under a third of election_timeout_min_s.
    entry_bytes_max: largest payload of one entry, inclusive.
    append_bytes_max: a message carries further entries until it is this large.
    window_bytes_max: entries on their way to one follower, not yet acknowledged.
    """

    name: str
    cluster_id: str
    peers: dict[str, str] = field(hash=False)
    election_timeout_min_s: float = 0.3
    election_timeout_max_s: float = 0.6
    heartbeat_s: float = 0.05
    entry_bytes_max: int = 8 * 1024 * 1024
    append_bytes_max: int = 1024 * 1024
    window_bytes_max: int = 16 * 1024 * 1024
    reconnect_min_s: float = 0.02
    reconnect_max_s: float = 0.5
    clients: dict[str, str] = field(default_factory=dict, hash=False)
    founders: tuple[str, ...] = ()
    command_version: int = 1

    def __post_init__(self) -> None:
        if self.name not in self.peers:
            raise ConfigError(f"node {self.name} is not one of the cluster's nodes: {', '.join(sorted(self.peers))}")
        if not self.founders:
            object.__setattr__(self, "founders", tuple(sorted(self.peers)))
        if not 0 < self.heartbeat_s * 3 < self.election_timeout_min_s < self.election_timeout_max_s:
            raise ConfigError(
                f"heartbeat_s = {self.heartbeat_s}, election_timeout_min_s = {self.election_timeout_min_s}, "
                f"election_timeout_max_s = {self.election_timeout_max_s}: expected "
                "3 x heartbeat_s < election_timeout_min_s < election_timeout_max_s"
            )

    @property
    def frame_bytes_max(self) -> int:
        """The longest peer message: a full batch of entries whose last one is the largest allowed, with its framing."""
        return self.append_bytes_max + self.entry_bytes_max + 64 * 1024
