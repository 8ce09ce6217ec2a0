"""The configuration: what a file may say, and what is said about one that may not."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from raftpay.config import (
    ClusterConfig,
    CommitConfig,
    JournalConfig,
    LimitsConfig,
    RaftConfig,
    SnapshotConfig,
    load,
    parse,
    render_local,
    split_address,
)
from raftpay.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parent.parent / "cluster.example.toml"
FILE = Path("/etc/raftpay/cluster.toml")
SECTIONS = {
    "raft": RaftConfig,
    "limits": LimitsConfig,
    "commit": CommitConfig,
    "journal": JournalConfig,
    "snapshot": SnapshotConfig,
}
GOOD = render_local(cluster_id="pay-1", ports=[(7101, 7201), (7102, 7202), (7103, 7203)])


def message_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE)
    return str(caught.value)


def test_a_rendered_file_loads_with_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(GOOD)

    config = load(path)

    assert config.path == path
    assert config.cluster_id == "pay-1"
    assert list(config.nodes) == ["n1", "n2", "n3"]
    assert (config.nodes["n2"].peer, config.nodes["n2"].client) == ("127.0.0.1:7102", "127.0.0.1:7202")
    assert config.nodes["n3"].data == tmp_path / "n3"
    assert config.raft == RaftConfig()
    assert config.limits == LimitsConfig()
    assert config.commit == CommitConfig()
    assert config.journal == JournalConfig()
    assert config.snapshot == SnapshotConfig()


def test_a_rendered_file_of_five_nodes_loads() -> None:
    text = render_local(cluster_id="pay-5", ports=[(7000 + i, 8000 + i) for i in range(5)])

    assert list(parse(text, FILE).nodes) == ["n1", "n2", "n3", "n4", "n5"]


def test_rendering_refuses_what_could_not_be_loaded() -> None:
    with pytest.raises(ConfigError, match="found 2 nodes, expected 3 or 5"):
        render_local(cluster_id="pay-1", ports=[(1, 2), (3, 4)])


def test_a_configuration_cannot_be_changed() -> None:
    config = parse(GOOD, FILE)

    with pytest.raises(dataclasses.FrozenInstanceError):
        config.limits.connections_max = 5  # type: ignore[misc]  # that it is refused is the point


def test_keys_that_are_given_replace_the_defaults() -> None:
    config = parse(
        f"{GOOD}\n[raft]\nheartbeat_s = 0.09\nelection_timeout_max_s = 1\n[limits]\nconnections_max = 7\n", FILE
    )

    assert config.raft == RaftConfig(heartbeat_s=0.09, election_timeout_max_s=1.0)
    assert isinstance(config.raft.election_timeout_max_s, float)
    assert config.limits == LimitsConfig(connections_max=7)


def test_the_longest_message_fits_into_an_entry() -> None:
    config = parse(GOOD, FILE)

    assert config.entry_bytes_max > config.limits.message_bytes_max


def test_the_example_loads_and_is_a_cluster_of_three() -> None:
    config = load(EXAMPLE)

    assert list(config.nodes) == ["n1", "n2", "n3"]
    assert config == dataclasses.replace(config, raft=RaftConfig(), limits=LimitsConfig())


@pytest.mark.parametrize("section", SECTIONS)
def test_the_example_shows_every_key_with_its_default_and_why(section: str) -> None:
    text = EXAMPLE.read_text()
    lines = text.splitlines()

    shown = tomllib.loads(text)[section]

    assert shown == {field.name: field.default for field in dataclasses.fields(SECTIONS[section])}
    for key in shown:
        (place,) = [number for number, line in enumerate(lines) if line.startswith(f"{key} =")]
        comment = []
        while lines[place - 1].startswith("#"):
            place -= 1
            comment.insert(0, lines[place])
        unit = {"s": "Seconds", "bytes": "Bytes"}.get(re.sub(r".*?_(s|bytes)(_max)?$", r"\1", key), "")
        assert comment, f"{key} has no comment"
        assert comment[0].startswith(f"# {unit}"), f"{key} does not begin with its unit"


def test_the_example_has_a_section_for_every_part_of_the_configuration() -> None:
    parts = {field.name for field in dataclasses.fields(ClusterConfig)} - {"path", "cluster_id"}

    assert set(tomllib.loads(EXAMPLE.read_text())) == parts | {"cluster"}


def test_the_example_explains_the_keys_of_a_node() -> None:
    text = EXAMPLE.read_text()

    for key in ("id", "peer", "client", "data"):
        assert re.search(rf"^# .*\n{key} = ", text, re.MULTILINE), key


def replaced(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


BAD_FILES = {
    "not_toml": ("[cluster\n", "is not TOML: Expected ']' at the end of a table declaration (at line 1, column 9)"),
    "unknown_section": (
        GOOD + "[limit]\n",
        "limit: unknown section, did you mean 'limits'; "
        "known are cluster, nodes, raft, limits, commit, journal, snapshot, scrub",
    ),
    "unknown_key": (
        GOOD + "[raft]\nheartbeat = 0.1\n",
        "[raft] heartbeat: unknown key, did you mean 'heartbeat_s'; known are "
        "election_timeout_min_s, election_timeout_max_s, heartbeat_s, append_bytes_max, window_bytes_max, "
        "transfer_timeout_s",
    ),
    "unknown_key_like_none": (
        GOOD + "[commit]\nzzz = 1\n",
        "[commit] zzz: unknown key; known are commands_in_flight_max, command_events_max",
    ),
    "unknown_key_of_a_node": (
        replaced('data = "n1"', 'data = "n1"\npear = "x"'),
        "[nodes.n1] pear: unknown key, did you mean 'peer'; known are peer, client, data, joins",
    ),
    "unknown_key_of_the_cluster": (
        replaced("[cluster]", '[cluster]\nname = "x"'),
        "[cluster] name: unknown key; known are id",
    ),
    "no_cluster": ("[nodes]\n", "[cluster]: this section is missing"),
    "no_id": (
        replaced('id = "pay-1"\n', ""),
        "[cluster] id: is missing, expected 1 to 32 of a-z, 0-9 and -",
    ),
    "bad_id": (
        replaced('"pay-1"', '"Pay 1"'),
        '[cluster] id: found "Pay 1", expected 1 to 32 of a-z, 0-9 and -',
    ),
    "id_of_wrong_type": (
        replaced('"pay-1"', "7"),
        "[cluster] id: found 7, expected 1 to 32 of a-z, 0-9 and -",
    ),
    "no_nodes": ('[cluster]\nid = "a"\n', "[nodes]: this section is missing"),
    "two_nodes": (
        GOOD[: GOOD.index("[nodes.n3]")],
        "[nodes]: found 2 nodes, expected 3 or 5: two survive no failure, four no more failures than three. "
        "A node that joins a running cluster (`raftpay member add`) is marked with `joins = true`",
    ),
    "four_nodes": (
        GOOD + '[nodes.n4]\npeer = "127.0.0.1:1"\nclient = "127.0.0.1:2"\ndata = "n4"\n',
        "[nodes]: found 4 nodes, expected 3 or 5: two survive no failure, four no more failures than three. "
        "A node that joins a running cluster (`raftpay member add`) is marked with `joins = true`",
    ),
    "node_is_no_table": (
        '[cluster]\nid = "a"\n[nodes]\na = 1\nb = 2\nc = 3\n',
        "[nodes] a: found 1, expected a section [nodes.a]",
    ),
    "bad_node_name": (
        replaced("[nodes.n2]", '[nodes."N 2"]'),
        "[nodes] N 2: is no name of a node, expected 1 to 32 of a-z, 0-9 and -",
    ),
    "long_node_name": (
        replaced("[nodes.n2]", f"[nodes.{'n' * 33}]"),
        f"[nodes] {'n' * 33}: is no name of a node, expected 1 to 32 of a-z, 0-9 and -",
    ),
    "missing_address": (
        replaced('client = "127.0.0.1:7202"\n', ""),
        '[nodes.n2] client: is missing, expected "host:port" such as "127.0.0.1:7101"',
    ),
    "address_without_port": (
        replaced("127.0.0.1:7202", "127.0.0.1"),
        '[nodes.n2] client: found "127.0.0.1", expected "host:port" such as "127.0.0.1:7101"',
    ),
    "address_with_port_0": (
        replaced("127.0.0.1:7202", "127.0.0.1:0"),
        '[nodes.n2] client: found "127.0.0.1:0", expected "host:port" such as "127.0.0.1:7101"',
    ),
    "address_with_a_port_too_high": (
        replaced("127.0.0.1:7202", "127.0.0.1:65536"),
        '[nodes.n2] client: found "127.0.0.1:65536", expected "host:port" such as "127.0.0.1:7101"',
    ),
    "address_of_the_world": (
        replaced("127.0.0.1:7101", "0.0.0.0:7101"),
        '[nodes.n1] peer: found "0.0.0.0:7101", expected a loopback address (127.0.0.1, ::1, localhost): '
        "connections are not encrypted yet, so a node listens to its own machine only",
    ),
    "address_by_name": (
        replaced("127.0.0.1:7201", "db1.example.com:7201"),
        '[nodes.n1] client: found "db1.example.com:7201", expected a loopback address (127.0.0.1, ::1, localhost): '
        "connections are not encrypted yet, so a node listens to its own machine only",
    ),
    "address_twice": (
        replaced("127.0.0.1:7203", "127.0.0.1:7101"),
        "[nodes.n3] client: 127.0.0.1:7101 is taken by [nodes.n1] peer, expected one of its own",
    ),
    "address_twice_by_another_name": (
        replaced("127.0.0.1:7203", "localhost:7101"),
        "[nodes.n3] client: localhost:7101 is taken by [nodes.n1] peer, expected one of its own",
    ),
    "data_twice": (
        replaced('"n3"', '"x/../n1"'),
        "[nodes.n3] data: /etc/raftpay/n1 is taken by [nodes.n1] data, expected one of its own",
    ),
    "no_data": (replaced('data = "n3"\n', ""), "[nodes.n3] data: is missing, expected a folder"),
    "empty_data": (replaced('"n3"', '""'), '[nodes.n3] data: found "", expected a folder'),
    "section_is_no_table": ("raft = 1\n" + GOOD, "raft: found 1, expected a section [raft]"),
    "number_is_text": (
        GOOD + '[raft]\nheartbeat_s = "50ms"\n',
        '[raft] heartbeat_s: found "50ms", expected a number from 0.005 to 10.0',
    ),
    "number_is_true": (
        GOOD + "[raft]\nheartbeat_s = true\n",
        "[raft] heartbeat_s: found true, expected a number from 0.005 to 10.0",
    ),
    "number_is_nan": (
        GOOD + "[raft]\nheartbeat_s = nan\n",
        "[raft] heartbeat_s: found nan, expected a number from 0.005 to 10.0",
    ),
    "number_is_an_array": (
        GOOD + "[raft]\nheartbeat_s = [1]\n",
        "[raft] heartbeat_s: found an array, expected a number from 0.005 to 10.0",
    ),
    "whole_number_is_not_whole": (
        GOOD + "[limits]\nconnections_max = 1.5\n",
        "[limits] connections_max: found 1.5, expected a whole number from 1 to 100000",
    ),
    "whole_number_is_true": (
        GOOD + "[limits]\nconnections_max = true\n",
        "[limits] connections_max: found true, expected a whole number from 1 to 100000",
    ),
    "below_the_range": (
        GOOD + "[limits]\nconnections_max = 0\n",
        "[limits] connections_max: found 0, expected a whole number from 1 to 100000",
    ),
    "above_the_range": (
        GOOD + "[commit]\ncommand_events_max = 8191\n",
        "[commit] command_events_max: found 8191, expected a whole number from 1 to 8190",
    ),
    "no_spread_of_elections": (
        GOOD + "[raft]\nelection_timeout_min_s = 0.5\n",
        "[raft] election_timeout_max_s: found 0.6, expected at least 1.25 times election_timeout_min_s (0.5): "
        "the spread keeps nodes from standing at the same moment",
    ),
    "heartbeat_too_slow": (
        GOOD + "[raft]\nheartbeat_s = 0.2\n",
        "[raft] heartbeat_s: found 0.2, expected less than a third of election_timeout_min_s (0.3): "
        "a lost heartbeat or two must not start an election",
    ),
    "queue_below_a_message": (
        GOOD + "[limits]\nqueue_bytes_max = 1048576\n",
        "[limits] queue_bytes_max: found 1048576, expected at least message_bytes_max (8388608)",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_what_was_found_and_expected(name: str) -> None:
    text, expected = BAD_FILES[name]

    assert message_of(text) == f"{FILE}: {expected}"


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "cluster.toml")

    assert str(caught.value) == (
        f"{tmp_path}/cluster.toml: cannot be read (No such file or directory); "
        "`raftpay up` makes a cluster file, or copy cluster.example.toml"
    )


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_bytes(b"[cluster]\nid = '\xff'")

    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 16\)"):
        load(path)


def test_a_node_that_is_not_in_the_file_is_named_with_those_that_are() -> None:
    config = parse(GOOD, FILE)

    with pytest.raises(ConfigError) as caught:
        config.node("n4")

    assert str(caught.value) == f"{FILE}: there is no node 'n4'; the nodes are n1, n2, n3"
    assert config.node("n1").name == "n1"


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:65535", ("::1", 65535)), ("localhost:80", ("localhost", 80))],
)
def test_an_address_splits_into_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize("address", ["", ":1", "host", "host:", "host:x", "host:-1", "host:٣", "::1:80", "host:70000"])
def test_what_is_no_address_does_not_split(address: str) -> None:
    with pytest.raises(ValueError, match="not a host:port"):
        split_address(address)


def test_a_file_with_a_node_that_joins_may_have_any_number_up_to_seven() -> None:
    joining = '[nodes.n4]\npeer = "127.0.0.1:1"\nclient = "127.0.0.1:2"\ndata = "n4"\njoins = true\n'

    config = parse(GOOD + joining, FILE)

    assert [name for name, node in config.nodes.items() if node.joins] == ["n4"]
    bad = GOOD.replace('data = "n1"', 'data = "n1"\njoins = "yes"')
    assert '[nodes.n1] joins: found "yes", expected true or false' in message_of(bad)
