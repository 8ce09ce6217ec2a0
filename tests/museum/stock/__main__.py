"""Runs one exhibit in a process of its own: `python -m tests.museum.stock HALL EXHIBIT`, in a folder that it may fill.

An exhibit asserts the harm itself, so that it fails where stock PySyncObj does none. One that ends well says so in its
last line: a process that merely ended would look the same.
"""

import importlib
import os
import sys

from tests.museum.stock import DONE


def main() -> None:
    hall, exhibit = sys.argv[1:]
    getattr(importlib.import_module(f"tests.museum.stock.{hall}"), exhibit)()
    assert "raftpay" not in sys.modules
    sys.stdout.write(f"\n{DONE}\n")
    sys.stdout.flush()
    # Without the interpreter's own end: what an exhibit left behind (sockets, maps) is none of its business.
    os._exit(0)


main()
