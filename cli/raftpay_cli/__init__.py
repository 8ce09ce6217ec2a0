"""The command line `raftpay`: `main` is the console script; each group of commands is a module, loaded when used."""

from raftpay_cli.root import main

__all__ = ["main"]
