"""Remedies whose lack no fault of the simulator shows: why, and which test holds them instead."""

from typing import Final

from tests.sim.remedies.removal import OutOfReach

RULES: Final = "tests/raft/test_engine_rules.py"
RACES: Final = "tests/raft/test_engine_races.py"
SNAPSHOT_RULES: Final = "tests/raft/test_snapshot_rules.py"
TRANSPORT: Final = "tests/raft/test_transport.py"
JOURNAL: Final = "tests/storage/test_journal.py"
HARD_STATE: Final = "tests/storage/test_hard_state.py"

OUT_OF_REACH: Final = (
    OutOfReach(
        "S1",
        "a conflict at or below the commit index stops the node",
        "a second line: only with another remedy gone does a leader send such an entry",
        (f"{RULES}::test_5_3_a_conflict_below_the_commit_index_stops_the_node",),
    ),
    OutOfReach(
        "S1",
        "the next index stays above the match index, which goes back only with a refusal",
        "with the cut at conflicts in place, what is sent twice does no harm; replies of a connection come in order",
        (f"{RULES}::test_5_3_a_repeated_frame_does_not_cut_what_follows_it",),
    ),
    OutOfReach(
        "S4",
        "an installed snapshot leaves the log as it is where that agrees",
        "a second line: a leader that offers one has no entries from before it to send. If another leader sends them "
        "meanwhile, they are applied within a quarter of a heartbeat; the snapshot is then behind the state and is not "
        "installed",
        (f"{SNAPSHOT_RULES}::test_7_a_log_that_agrees_with_the_snapshot_is_kept",),
    ),
    OutOfReach(
        "S6",
        "the newest connection of a peer silences the older one",
        "the simulated network stands in the place of transport.py, and keeps its guarantee",
        (f"{TRANSPORT}::test_the_newest_connection_of_a_peer_silences_the_older_one",),
    ),
    OutOfReach(
        "S7",
        "the hint below the conflicting term, one probe at a time, a bounded window",
        "they save messages; without them logs converge too, later",
        (
            f"{RULES}::test_a_backlog_of_many_frames_after_a_conflict_converges",
            f"{RACES}::test_many_refusals_of_what_was_under_way_bring_one_probe",
        ),
    ),
    OutOfReach(
        "S8, S18",
        "an entry that cannot be applied, or is of no known type, stops the node",
        "faults make no such entry: what damage changes is found by its crc",
        (
            f"{RULES}::test_an_entry_that_cannot_be_applied_stops_the_node_and_is_not_tried_again",
            "tests/museum/test_commands.py::test_s18_an_entry_of_an_unknown_type_stops_a_node_and_what_is_behind_it_waits",
        ),
    ),
    OutOfReach(
        "S9",
        "the callback of a proposal only completes a future",
        "nobody gives a proposal up in the simulator, so that the future is always open",
        ("tests/museum/test_commands.py::test_s9_a_proposer_that_gave_up_changes_nothing_on_any_node",),
    ),
    OutOfReach(
        "S10, S23",
        "stock's own changes of members are no entries",
        "nobody proposes one",
        (
            "tests/museum/test_membership.py::test_s10_stocks_own_changes_cannot_be_written",
            "tests/museum/test_membership.py::test_s23_stocks_own_change_in_the_log_stops_the_node",
        ),
    ),
    OutOfReach(
        "4.2.1",
        "a new or replaced disk votes once it has caught up",
        "without, it is safe too, but what it lacks is waited for",
        ("tests/raft/test_membership_rules.py::test_a_node_that_is_added_learns_before_it_counts",),
    ),
    OutOfReach(
        "4.2.3",
        "what a removed node says deposes nobody",
        "it costs elections, which are not counted as wrong",
        ("tests/raft/test_membership_rules.py::test_a_node_that_is_removed_disturbs_nobody",),
    ),
    OutOfReach(
        "S12, S13",
        "followers forward no commands",
        "there is nothing to take out: no message carries a command or its answer",
        (
            "tests/museum/test_commands.py::test_s12_a_follower_refuses_at_once_and_forwards_nothing",
            "tests/museum/test_commands.py::test_s13_no_message_answers_a_command_so_that_none_can_be_mistaken",
        ),
    ),
    OutOfReach(
        "S14",
        "what an installed snapshot covers is answered as unknown",
        "a second line: a node that installs one leads no more, and has answered its proposals when it lost its office",
        (f"{SNAPSHOT_RULES}::test_7_a_proposer_whose_entry_a_snapshot_covers_is_told_unknown",),
    ),
    OutOfReach(
        "S16",
        "an old leader is told the new term",
        "without, it hears of it from the new leader, or steps down by itself, a second later",
        (
            f"{RULES}::test_5_1_an_old_leader_is_told_that_its_term_is_over",
            f"{RULES}::test_5_1_a_reply_of_a_higher_term_makes_the_leader_step_down",
        ),
    ),
    OutOfReach(
        "seed 2190",
        "a follower takes over as soon as it is asked, or not at all",
        "it takes a follower that is asked just as it loses its connections: one of the first 2,190 seeds of all "
        "faults, none of 500 of exile, partition, stall and transfer",
        (f"{RULES}::test_3_10_a_follower_that_cannot_take_over_at_once_does_not_do_it_later",),
    ),
    OutOfReach(
        "S17",
        "voters are counted, not votes",
        "no connection doubles a message, and a vote is sent once",
        (f"{RULES}::test_5_2_one_voter_is_counted_once",),
    ),
    OutOfReach(
        "S19",
        "a proposal is refused at once where nobody leads",
        "group commit asks who leads in the same turn, before it proposes",
        ("tests/museum/test_commands.py::test_s19_a_command_without_a_leader_is_refused_and_never_made",),
    ),
    OutOfReach(
        "S20",
        "a command of an unknown version stops the node",
        "a second line: such a command is not written before all members know its version",
        ("tests/museum/test_commands.py::test_s20_a_node_that_does_not_know_the_version_of_a_command_stops_before_it",),
    ),
    OutOfReach(
        "S21",
        "a leader without a snapshot for a follower sends it heartbeats and no more",
        "it saves messages and time",
        (f"{SNAPSHOT_RULES}::test_7_a_leader_without_a_snapshot_sends_a_heartbeat_and_no_more",),
    ),
    OutOfReach(
        "D3",
        "a hard state that is missing beside a journal keeps the node from starting",
        "no fault takes a name that was fsynced",
        (f"{HARD_STATE}::test_a_missing_file_beside_a_journal_with_entries_is_corruption",),
    ),
    OutOfReach(
        "D4, D7",
        "no dumps, no fork",
        "there is nothing to take out",
        ("tests/museum/test_dumps.py::test_d4_d7_the_engine_writes_no_dump_and_forks_no_process",),
    ),
    OutOfReach(
        "D10",
        "the reserve; what a full disk has cut short is erased",
        "without the reserve a node waits until there is room again; writes into preallocated room always find it",
        (
            f"{HARD_STATE}::test_on_a_full_disk_the_reserve_is_given_up_for_it",
            f"{JOURNAL}::test_a_write_that_finds_no_room_half_way_leaves_the_journal_as_before",
        ),
    ),
    OutOfReach(
        "D11",
        "segments are allocated, not sparse",
        "a simulated disk has no sparse files and no mapped memory",
        ("tests/museum/test_journal.py::test_d11_there_is_room_on_the_disk_for_the_whole_of_each_segment",),
    ),
    OutOfReach(
        "D13",
        "indexes, terms and offsets have 64 bits",
        "runs are too short",
        (f"{JOURNAL}::test_indexes_and_terms_have_64_bits",),
    ),
    OutOfReach(
        "D14, D15",
        "one entry type; the whole state in the snapshot",
        "there is nothing to take out",
        (
            "tests/museum/test_dumps.py::test_d14_d15_the_engine_knows_no_methods_and_the_log_gives_the_whole_state_again",
        ),
    ),
    OutOfReach(
        "security",
        "no pickle, no utility commands, limits",
        "faults are no attackers",
        (
            "tests/raft/test_engine_pin.py::test_pickle_is_out_of_reach_of_the_engine",
            "tests/museum/test_sockets.py::test_open_a_stranger_has_no_commands_and_reads_nothing",
        ),
    ),
    OutOfReach(
        "rot",
        "what is found damaged is read again before it is called so, and what was cut meanwhile is left alone",
        "the cut has to come within the milliseconds in which that segment is read",
        (
            "tests/node/test_scrub_removals.py::test_a_segment_that_changes_under_the_scrub_is_not_called_damaged",
            "tests/node/test_scrub_removals.py::test_what_was_cut_while_it_was_mended_is_left_alone",
        ),
    ),
    OutOfReach(
        "rot",
        "a peer's copy of a file of history is compared before it is taken",
        "the same file has to be damaged on two nodes of five; and what was taken is read again",
        ("tests/node/test_scrubbing.py::test_a_peer_whose_copy_is_damaged_too_is_passed_over",),
    ),
)
