"""What the global options said, and what follows from it: which cluster a command talks to.

Light on purpose: neither the configuration reader nor the client is imported before a command asks for them.
"""

import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftpay.errors import ConfigError

if TYPE_CHECKING:
    from raftpay.config import ClusterConfig

DEADLINE_DEFAULT_S: Final = 10.0
DEADLINE_MAX_S: Final = 86_400.0
DATA_DEFAULT: Final = "raftpay-data"
CONFIG_NAME: Final = "cluster.toml"


def _config_of_environment() -> Path | None:
    value = os.environ.get("RAFTPAY_CONFIG")
    return Path(value) if value else None


@dataclass(slots=True)
class Settings:
    """The global options of one call of the command line.

    config: the cluster.toml that was named by option or environment, or None.
    given_addresses: client addresses that were named; they win over those of a cluster.toml.
    deadline_s: how long one request to the cluster may take.
    is_json: data is printed as JSON.
    """

    config: Path | None = field(default_factory=_config_of_environment)
    given_addresses: tuple[str, ...] = ()
    deadline_s: float = DEADLINE_DEFAULT_S
    is_json: bool = False

    def config_path(self) -> Path:
        """The cluster.toml to use: the one named, else the one that lies here. Raises ConfigError if there is none."""
        if self.config is not None:
            return self.config
        candidates = [Path(CONFIG_NAME), Path(DATA_DEFAULT, CONFIG_NAME)]
        for path in candidates:
            if path.is_file():
                return path
        raise ConfigError(
            f"no cluster is named, and neither {candidates[0]} nor {candidates[1]} exists in {os.getcwd()}: "
            "give --config PATH or --address HOST:PORT, or start a local cluster with `raftpay up`"
        )

    def directory(self, data: Path | None) -> Path:
        """The directory of a local cluster: the one named by --data, else that of --config, else ./raftpay-data."""
        if data is not None:
            return data
        if self.config is None:
            return Path(DATA_DEFAULT)
        if self.config.name != CONFIG_NAME:
            raise ConfigError(f"{self.config}: a local cluster keeps its configuration in a file called {CONFIG_NAME}")
        return self.config.parent

    def cluster(self) -> "ClusterConfig":
        """The configuration of the cluster, read and checked. Raises ConfigError."""
        # Imported here: `raftpay --help` needs no TOML reader.
        config = importlib.import_module("raftpay.config")
        loaded: ClusterConfig = config.load(self.config_path())
        return loaded

    def addresses(self) -> list[str]:
        """The client addresses to talk to, "host:port". Raises ConfigError when no cluster is named."""
        return list(self.named_addresses().values())

    def named_addresses(self) -> dict[str, str]:
        """The client addresses by the name of the node, or by the address itself where it was given as such."""
        if self.given_addresses:
            return {_checked_address(address): address for address in self.given_addresses}
        return {node.name: node.client for node in self.cluster().nodes.values()}


def _checked_address(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"--address {address!r} is not HOST:PORT: write it like 127.0.0.1:7201")
    return address
