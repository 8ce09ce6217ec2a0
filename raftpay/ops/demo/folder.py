"""The demo's folder: taken by one demo at a time, and cleared only of what a demo made. The drill is the caller."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from raftpay.errors import ConfigError

MARKER_NAME: Final = ".raftpay-demo"
_MARKER_TEXT: Final = "This folder belongs to `raftpay demo`, which clears away what it made here before.\n"
CLUSTER_NAME: Final = "cluster"
RESULT_NAME: Final = "result.json"
PICTURE_NAME: Final = "throughput.svg"
REFUSED_NAME: Final = "refused.csv"
# What a demo makes, and so the next one may remove; the sample included, and what the reports are called on their way.
MADE: Final = (
    CLUSTER_NAME,
    RESULT_NAME,
    PICTURE_NAME,
    "accounts.csv",
    "payments.csv",
    *(f"{kind}{REFUSED_NAME}{ending}" for kind in ("", "accounts-") for ending in ("", ".partial", ".new")),
)


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[Path]:
    """Make the folder or take over an earlier demo's, clear it, and hold it while the context lasts.

    Raises ConfigError when another demo runs there, or when it is somebody else's folder.
    """
    marker = folder / MARKER_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not marker.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder} is not empty, and no demo made it: nothing was touched. Name another with --out"
            )
        handle = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be used for the demo: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"a demo runs in {folder} already: wait for it, or name another with --out") from error
        os.truncate(handle, 0)
        os.write(handle, _MARKER_TEXT.encode())
        clear(folder)
        yield folder
    finally:
        os.close(handle)


def clear(folder: Path) -> None:
    """Remove what a demo made in its folder, and nothing else."""
    for name in MADE:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
