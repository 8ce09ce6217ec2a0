"""The house itself: which room may import which, how large files and functions may grow, what must stay light.

The floors are those of docs/architecture.md. The sizes are ratchets: an exception is written here with its reason.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"raftpay": ROOT / "raftpay", "raftpay_cli": ROOT / "cli" / "raftpay_cli"}

FLOORS = {
    "errors": 0,
    "ledger": 0,
    "storage": 1,
    "archive": 1,
    "wire": 1,
    "tls": 1,
    "config": 1,
    "raft": 2,
    "machine": 2,
    "client": 2,
    "node": 3,
    "ops": 3,
    "sim": 3,
    "raftpay": 3,
    "raftpay_cli": 4,
}
# Rooms of one floor do not import each other, with these doors as the exceptions.
SIDE_DOORS = {
    ("raftpay", "node"): "the front door re-exports nothing of the node, but may name it for lazy loading",
    ("sim", "node"): "the simulator runs the node's own group commit and reads over simulated parts",
    ("archive", "storage"): "sealed files lie on the disk that storage gives, and a simulation stands in for it there",
    ("ledger", "errors"): "the errors are a floor of their own, below everything",
}
# These rooms carry bytes: the books are none of their business.
BLIND_ROOMS = {"raft", "storage", "wire"}
# One room, one outside library.
OWNED_LIBRARIES = {
    "pysyncobj": {"raft"},
    "click": {"raftpay_cli"},
    "rich": {"raftpay_cli"},
    "crc32c": {"storage", "wire", "archive"},
    "duckdb": {"archive"},
    "numpy": {"archive"},
}
# Nothing that waits, asks the clock or rolls dice may take part in the books.
IMPURE_MODULES = {
    "asyncio",
    "logging",
    "os",
    "pathlib",
    "random",
    "secrets",
    "socket",
    "threading",
    "time",
    "uuid",
    "datetime",
}

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
POSITIONAL_PARAMETERS_MAX = 5
LONGER_FILES: dict[str, tuple[int, str]] = {}
LONGER_FUNCTIONS: dict[str, tuple[int, str]] = {}
FORBIDDEN_FILE_NAMES = {"utils.py", "helpers.py", "common.py", "base.py"}


def source_files() -> list[Path]:
    return sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))


def module_name(path: Path) -> str:
    for package, folder in PACKAGES.items():
        if path.is_relative_to(folder):
            parts = path.relative_to(folder).with_suffix("").parts
            return ".".join((package, *parts)).removesuffix(".__init__")
    raise AssertionError(path)


def room(module: str) -> str:
    package, _, rest = module.partition(".")
    if package != "raftpay":
        return package
    return rest.split(".")[0] if rest else "raftpay"


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """The modules that a file imports, wherever in the file it does so, names of submodules included."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*parents, source] if source else parents)
            yield node.lineno, source
            for alias in node.names:
                yield node.lineno, f"{source}.{alias.name}"


def known_modules() -> set[str]:
    return {module_name(path) for path in source_files()}


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_a_door_opens_only_downward(path: Path) -> None:
    here = room(module_name(path))
    wrong = []
    for line, name in imports(path):
        if name.split(".")[0] not in PACKAGES or name == "raftpay" or name not in known_modules():
            continue
        there = room(name)
        if there == here or (here, there) in SIDE_DOORS:
            continue
        if FLOORS[there] >= FLOORS[here]:
            wrong.append(f"line {line}: {here} (floor {FLOORS[here]}) imports {name} (floor {FLOORS[there]})")
        if here in BLIND_ROOMS and there == "ledger":
            wrong.append(f"line {line}: {here} carries bytes and must not know the ledger")

    assert wrong == []


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_a_library_is_known_to_its_room_only(path: Path) -> None:
    here = room(module_name(path))

    wrong = [
        f"line {line}: {here} imports {name}"
        for line, name in imports(path)
        if here not in OWNED_LIBRARIES.get(name.split(".")[0], {here})
    ]

    assert wrong == []


@pytest.mark.parametrize("path", sorted((ROOT / "raftpay" / "ledger").rglob("*.py")), ids=module_name)
def test_the_ledger_is_pure(path: Path) -> None:
    tree = ast.parse(path.read_text())

    impure = [f"line {line}: {name}" for line, name in imports(path) if name.split(".")[0] in IMPURE_MODULES]
    waits = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Await | ast.AsyncFunctionDef)]

    assert impure == []
    assert waits == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = known_modules()
    graph = {module_name(path): {name for _, name in imports(path) if name in known} for path in source_files()}
    for package in graph:
        graph[package].discard(package)
    state: dict[str, int] = {}
    circles: list[list[str]] = []

    def visit(module: str, trail: list[str]) -> None:
        if state.get(module) == 1:
            circles.append([*trail[trail.index(module) :], module])
        if module in state:
            return
        state[module] = 1
        # A package imports its own submodules, and they may import its siblings: only modules proper count.
        for other in sorted(graph[module]):
            if not module.startswith(f"{other}."):
                visit(other, [*trail, module])
        state[module] = 2

    for module in sorted(graph):
        visit(module, [])

    assert circles == []


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_files_and_functions_stay_small(path: Path) -> None:
    name, text = module_name(path), path.read_text()
    too_long = []
    if len(text.splitlines()) > LONGER_FILES.get(name, (FILE_LINES_MAX, ""))[0]:
        too_long.append(f"{name}: {len(text.splitlines())} lines")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGER_FUNCTIONS.get(f"{name}.{node.name}", (FUNCTION_LINES_MAX, ""))[0]:
                too_long.append(f"{name}.{node.name}: {lines} lines")

    assert too_long == []


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_functions_take_few_positional_parameters(path: Path) -> None:
    too_many = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorated = any("command" in ast.unparse(decorator) for decorator in node.decorator_list)
            positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
            if len(positional) > POSITIONAL_PARAMETERS_MAX and not decorated:
                too_many.append(f"line {node.lineno}: {node.name} takes {len(positional)}")

    assert too_many == []


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_each_module_says_what_lives_in_it(path: Path) -> None:
    text = path.read_text()

    assert not text.strip() or ast.get_docstring(ast.parse(text)), "a module opens with a paragraph"
    assert path.name not in FORBIDDEN_FILE_NAMES


def test_the_front_door_is_short_and_light() -> None:
    heavy = ("pysyncobj", "click", "rich", "pickle", "duckdb", "numpy")
    program = f"import raftpay, sys; print(sorted(set({heavy!r}) & set(sys.modules)))"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert loaded.stdout.strip() == "[]"
    assert len((ROOT / "raftpay" / "__init__.py").read_text().splitlines()) < 80


def test_every_room_has_a_floor() -> None:
    rooms = {room(module) for module in known_modules()}

    assert rooms - FLOORS.keys() == set()


def test_pickle_is_imported_nowhere() -> None:
    users = [
        module_name(path) for path in source_files() for _, name in imports(path) if name.split(".")[0] == "pickle"
    ]

    assert users == []
