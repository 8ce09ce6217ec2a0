"""A node of a local cluster does not outlive its supervisor, however that one ends. Called by `raftpay node run`.

Linux tells a child that its parent has gone by a signal of the child's choice (prctl PR_SET_PDEATHSIG). SIGKILL is
chosen: it reaches a node that is paused by SIGSTOP too, which no pipe or socket would. Losing power is no worse, and
a node survives that.
"""

import ctypes
import os
import signal
import sys
from typing import Final

from raftpay.errors import LocalClusterError

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent_pid: int, guarded: int) -> None:
    """Have the kernel kill this process when the thread that started it ends. Call it from the main thread.

    guarded: the inherited end of a pipe, closed here to tell the parent that this is done.
    Raises LocalClusterError if the parent has gone already: between the start and this call nobody watched.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise LocalClusterError(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        raise LocalClusterError(f"the supervisor (process {parent_pid}) has gone: not starting without it")
    os.close(guarded)
