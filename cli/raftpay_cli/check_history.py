"""How the outcome of `raftpay check --deep` is shown."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from raftpay_cli.output import table, word

if TYPE_CHECKING:
    from raftpay.ops.deep_check import DeepCheck


def history_value(checked: "DeepCheck") -> dict[str, Any]:  # Any: what json carries
    return {
        "is_good": checked.is_good,
        "differences": checked.differences,
        "elsewhere": checked.elsewhere,
        "nodes": [
            {
                "name": archive.node,
                "path": str(archive.path),
                "segments": len(archive.findings),
                "rows": archive.rows,
                "digest": archive.findings[-1].cut.digest.hex() if archive.findings else None,
                "problems": archive.problems,
            }
            for archive in checked.archives
        ],
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
            "Sealed history is not what it was: keep the data directories as they are, and find out who changed them.",
            style="bold red",
        )
