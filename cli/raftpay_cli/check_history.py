"""How the outcome of `raftpay check --deep` is shown."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from raftpay_cli.output import table, word

if TYPE_CHECKING:
    from raftpay.ops.deep_check import DeepCheck
    from raftpay.ops.replay import Replay


def history_value(checked: "DeepCheck") -> dict[str, Any]:  # Any: what json carries
    return {
        "is_good": checked.is_good,
        "differences": checked.differences,
        "elsewhere": checked.elsewhere,
        "common_index": checked.common.index,
        "nodes": [
            {
                "name": archive.node,
                "path": str(archive.path),
                "segments": len(archive.findings),
                "rows": archive.rows,
                "digest": archive.findings[-1].cut.digest.hex() if archive.findings else None,
                "replay": _replay_value(archive.replay),
                "problems": archive.problems,
            }
            for archive in checked.archives
        ],
    }


def _replay_value(made: "Replay | None") -> dict[str, int | bool] | None:
    if made is None:
        return None
    return {
        "snapshot_index": made.snapshot_index,
        "last_index": made.last_index,
        "committed_index": made.committed_index,
        "segments_compared": made.compared,
        "has_common_entry": made.common is not None,
    }


def history_tables(checked: "DeepCheck") -> Iterator[Table | Text | str]:
    yield ""
    yield "Sealed history, every row read"
    shown = table("node", "segments", "rows", "digest", "", right=["segments", "rows"])
    for archive in checked.archives:
        digest = archive.findings[-1].cut.digest.hex()[:16] if archive.findings else "-"
        verdict = word("differs" if archive.problems else "ok")
        shown.add_row(archive.node, f"{len(archive.findings):,}", f"{archive.rows:,}", digest, verdict)
    yield shown
    yield ""
    yield from _replay_tables(checked)
    for problem in (
        *checked.differences,
        *(f"{one.node}: {each}" for one in checked.archives for each in one.problems),
    ):
        yield Text(problem, style="bold red")
    if checked.elsewhere:
        names = ", ".join(checked.elsewhere)
        yield Text(f"Not read, for their directories are not on this machine: {names}.", style="yellow")
    if checked.is_good:
        yield Text("Sealed history is what was sealed, and its balances follow from its rows.", style="green")
    else:
        yield Text(
            "History is not what it was: a disk has damaged it, or somebody has changed it. Keep the data directories "
            "as they are until you know which. A running node mends what its disk has damaged when it scrubs; "
            "`raftpay node rebuild` makes a node anew from the others.",
            style="bold red",
        )


def _replay_tables(checked: "DeepCheck") -> Iterator[Table | Text | str]:
    replays = [(archive.node, archive.replay) for archive in checked.archives if archive.replay is not None]
    if not replays:
        return
    yield "Books made again from snapshot and journal"
    numbers = ["from entry", "to entry", "known to be\ncommitted to", "segments\ncompared", "books\nat entry"]
    shown = table("node", *numbers, "", right=numbers)
    for node, made in replays:
        cells = (made.snapshot_index + 1, made.last_index, made.committed_index, made.compared)
        books_at = "-" if made.common is None else f"{checked.common.index:,}"
        shown.add_row(node, *(f"{cell:,}" for cell in cells), books_at, word("differs" if made.problems else "ok"))
    yield shown
    yield ""
