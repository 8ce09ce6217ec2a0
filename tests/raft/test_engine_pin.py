"""The engine overrides private methods of one version of PySyncObj: any other must be read again before it is used."""

import inspect
from importlib.metadata import version
from pathlib import Path

import pysyncobj.syncobj as stock
from pysyncobj import SyncObj

from raftpay.raft.engine import Engine
from raftpay.raft.stock_engine import PYSYNCOBJ_VERSION, StockEngine


def test_the_installed_pysyncobj_is_the_one_the_overrides_were_written_for() -> None:
    assert version("pysyncobj") == PYSYNCOBJ_VERSION


def test_every_private_name_that_the_engine_touches_exists_in_pysyncobj() -> None:
    source = inspect.getsource(inspect.getmodule(StockEngine))
    touched = {word.split("_SyncObj")[1].split("(")[0] for word in _words(source) if word.startswith("_SyncObj__")}
    known = inspect.getsource(stock)

    missing = sorted(name for name in touched if name not in known)

    assert touched
    assert missing == []


def test_overridden_methods_are_methods_of_pysyncobj() -> None:
    overridden = [
        name for name in vars(StockEngine) if name.startswith("_SyncObj__") and callable(getattr(StockEngine, name))
    ]

    assert len(overridden) >= 2
    assert [name for name in overridden if not hasattr(SyncObj, name)] == []


def test_no_other_module_touches_private_names_of_pysyncobj() -> None:
    folder = Path(inspect.getfile(StockEngine)).parent

    assert [path.name for path in sorted(folder.glob("*.py")) if "_SyncObj__" in path.read_text()] == [
        "stock_engine.py"
    ]


def test_there_is_no_method_to_replicate_in_the_engine() -> None:
    names = [name for kind in Engine.__mro__ for name in vars(kind)]

    assert "doTick" in names
    assert [name for name in names if hasattr(inspect.getattr_static(Engine, name), "replicated")] == []


def test_pickle_is_out_of_reach_of_the_engine() -> None:
    assert type(stock.pickle).__name__ == "_PickleRefused"


def _words(source: str) -> list[str]:
    return "".join(character if character.isalnum() or character == "_" else " " for character in source).split()
