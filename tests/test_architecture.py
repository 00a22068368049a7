"""Who may import whom, and other rules that no single file can keep."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import listener

ROOT = Path(listener.__file__).parent

#: A file imports from lower floors, or without cycles from its own. A name stands for a package's files as well.
FLOORS: dict[int, str] = {
    0: "errors at_once call forms settings service sections nodes needs node_reader compose observe probe process "
    "temporary cpus shares waiting pace metrics tracing spans access _version",
    1: "by_name bf16 tensors elements values predictions rows batches said pool offload triton artifacts",
    2: "handler hooks apart shapes importing loader",
    3: "graph decoupled",
    4: "contract gate heads readiness",
    5: "middleware endpoints fallback fastpath intake",
    6: "app assembly routing worker",
    7: "watched kept reload workers init supervised starts cli __main__",
}
#: Beside the floors. `tools` may import all of them, `testing` those up to the application.
BESIDE = "tools testing __init__"
TESTING_UP_TO = 6
#: Programs of their own, which Triton runs without the package around them.
APART = "triton.backends"

#: bytes <-> nouns <-> arrays: nothing to wait for.
PURE = (
    "call",
    "errors",
    "shares",
    "waiting",
    "pace",
    "by_name",
    "nodes",
    "needs",
    "bf16",
    "tensors",
    "elements",
    "values",
    "predictions",
    "rows",
    "batches",
    "said",
    "triton.asking",
    "triton.split",
    "triton.freelist",
    "contract",
    "contract.answer",
    "contract.columnar",
    "contract.composed",
    "contract.compression",
    "contract.events",
    "contract.instances",
    "contract.schema",
    "contract.oip_schema",
    "contract.served",
    "contract.openapi",
    "contract.media",
    "contract.npy",
    "contract.oip",
    "contract.vertex_triton",
    "triton.events",
    "triton.paths",
    "triton.refusals",
    "triton.answers",
    "triton.codec",
    "triton.outputs",
    "triton.flight",
    "triton.retrying",
    "heads",
    "artifacts.bucket",
    "artifacts.layout",
    "artifacts.answer",
    "artifacts.parts",
    "artifacts.checksum",
    "artifacts.unpacking",
    "tools.drawing.picture",
    "tools.drawing.words",
    "tools.drawing.layout",
    "tools.drawing.tree",
    "tools.drawing.mermaid",
    "tools.drawing.svg",
    "tools.python_source",
    "tools.load.arrivals",
    "tools.load.search",
    "tools.load.figures",
    "tools.load.orders",
    "tools.load.exposition",
    "tools.load.plots",
    "tools.load.report",
    "tools.deploy.schemas",
    "tools.deploy.rules",
    "tools.deploy.machines",
    "tools.deploy.wanted",
    "tools.deploy.request",
    "tools.deploy.vertex",
    "tools.deploy.legacy",
    "tools.deploy.gcloud",
    "tools.deploy.printed",
    "watched",
)

#: Who may touch the environment beside settings.py, and why.
ENVIRONMENT = {
    "settings": "reads every setting",
    "triton.installation": "looks for libpython where LD_LIBRARY_PATH says",
    "triton.server": "hands the environment on to Triton",
    "artifacts.delivery": "hands the environment on to the process that fetches",
    "temporary": "looks for the temporary folder where TMPDIR says",
    "workers": "hands the environment on to the workers, and looks whether `listener init` is above",
    "init": "hands the environment on to supervisord",
    "starts": "reads in which folder the mark goes",
    "worker": "reads the number of the socket that it inherits",
}


def name_of(file: Path) -> str:
    """`contract.instances` for listener/contract/instances.py, `contract` for its __init__, `__init__` for ours."""
    parts = [*file.relative_to(ROOT).parent.parts, file.stem]
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


ALL = {name_of(file): ast.parse(file.read_text()) for file in sorted(ROOT.rglob("*.py"))}
MODULES = {name: tree for name, tree in ALL.items() if not name.startswith(APART)}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}
TESTING = [name for name in MODULES if name.partition(".")[0] == "testing"]
SERVING = [name for name in MODULES if name.partition(".")[0] in FLOOR]


def floor(module: str) -> int:
    return FLOOR[module.partition(".")[0]]


@dataclass(frozen=True)
class Import:
    """One module of this package that a module needs when it runs."""

    target: str
    line: int
    in_function: bool


def nodes(tree: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node but those that are there for type checkers, and whether it stands in a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node, in_function
        yield from nodes(node, in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def imported(node: ast.AST) -> list[str]:
    """Full names of what a node imports; of `from a import b` it is `a.b`."""
    match node:
        case ast.Import(names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module, names, 0):
            return [f"{module}.{alias.name}" for alias in names]
        case ast.ImportFrom():
            raise AssertionError(f"line {node.lineno}: a relative import")
        case ast.Call(ast.Attribute(attr="import_module"), [ast.Constant(str() as name)]):
            return [name]
    return []


def ours(full_name: str) -> str | None:
    """The module of this package that a full name is, or lies in."""
    package, _, name = full_name.partition(".")
    if package != "listener":
        return None
    if name == "__version__":
        return "_version"
    while name and name not in ALL:
        name = name.rpartition(".")[0]
    return name or "__init__"


def imports(module: str) -> list[Import]:
    return [
        Import(target, getattr(node, "lineno", 0), in_function)
        for node, in_function in nodes(MODULES[module])
        for target in map(ours, imported(node))
        if target is not None
    ]


def foreign(module: str) -> set[str]:
    """Top-level packages from elsewhere."""
    names = {name.partition(".")[0] for node, _ in nodes(MODULES[module]) for name in imported(node)}
    return names - {"listener"}


# The floors


def test_the_table_names_every_module_and_none_that_is_gone() -> None:
    listed = {*FLOOR, *BESIDE.split()}
    assert {name.partition(".")[0] for name in MODULES} == listed


def may_import(module: str, found: Import) -> bool:
    if found.target in SERVING:
        return floor(found.target) <= floor(module)
    return module == "cli" and found.target.partition(".")[0] == "tools"


@pytest.mark.parametrize("module", SERVING)
def test_a_module_imports_from_its_own_floor_or_lower_ones(module: str) -> None:
    wrong = [f"line {found.line}: {found.target}" for found in imports(module) if not may_import(module, found)]
    assert wrong == []


def test_there_are_no_cycles() -> None:
    needs = {module: {found.target for found in imports(module)} - {module} for module in MODULES}
    order = list(graphlib.TopologicalSorter(needs).static_order())  # raises CycleError, which names the cycle
    assert set(MODULES) <= set(order)


def test_the_command_line_alone_uses_the_tools_and_only_within_a_command() -> None:
    users = {
        (module, found.in_function)
        for module in [*SERVING, *TESTING, "__init__"]
        for found in imports(module)
        if found.target.partition(".")[0] == "tools"
    }
    assert users <= {("cli", True)}


def test_nothing_but_tools_uses_what_is_made_for_tests() -> None:
    users = {module for module in MODULES for found in imports(module) if found.target in TESTING}
    assert {user for user in users - set(TESTING) if not user.startswith("tools")} == set()


@pytest.mark.parametrize("module", TESTING)
def test_what_is_made_for_tests_stays_below_the_command_line(module: str) -> None:
    outside = [found for found in imports(module) if found.target not in TESTING]
    assert [found for found in outside if floor(found.target) > TESTING_UP_TO] == []


def test_the_fixtures_alone_need_pytest() -> None:
    assert {module for module in MODULES if "pytest" in foreign(module)} == {"testing.fixtures"}
    assert "testing.fixtures" not in {found.target for module in MODULES for found in imports(module)}


def test_the_backends_know_nothing_of_the_package_and_the_package_nothing_of_them() -> None:
    backends = [name for name in ALL if name.startswith(APART)]
    into = {name for name in backends for node, _ in nodes(ALL[name]) for found in imported(node) if ours(found)}
    out_of = {name for name in MODULES for found in imports(name) if found.target.startswith(APART)}
    assert backends
    assert (into, out_of) == (set(), set())


# The front door


def test_importing_the_package_imports_its_version_and_no_more() -> None:
    assert {found.target for found in imports("__init__")} == {"_version"}


def declared() -> dict[str, str]:
    """The public names as type checkers see them, and the module that each comes from."""
    blocks = [node for node in MODULES["__init__"].body if isinstance(node, ast.If)]
    found = [name for block in blocks for node in block.body for name in imported(node)]
    return {name.rpartition(".")[2]: name.rpartition(".")[0] for name in found}


def test_the_public_names_are_those_that_type_checkers_see() -> None:
    assert set(listener.__all__) == {*declared(), "__version__"}


@pytest.mark.parametrize(("name", "home"), declared().items())
def test_a_public_name_is_the_one_of_its_home(name: str, home: str) -> None:
    assert getattr(listener, name) is getattr(importlib.import_module(home), name)


def test_a_name_that_is_not_public_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'listener' has no attribute 'Nothing'"):
        _ = listener.Nothing


# What is cheap stays cheap

HEAVY = [
    *("numpy", "aiohttp", "tritonclient", "onnx", "PIL", "google.cloud.storage", "googleapiclient"),
    *("opentelemetry.trace", "opentelemetry.sdk", "opentelemetry.exporter"),
]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("listener", HEAVY),
        ("listener.cli", HEAVY),
        ("listener.workers", HEAVY),
        ("listener.init", HEAVY),
        ("listener.starts", HEAVY),
        ("listener.worker", [name for name in HEAVY if name != "aiohttp"]),
    ],
)
def test_importing_it_loads_nothing_large(module: str, absent: list[str]) -> None:
    script = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_has_nothing_to_wait_for(module: str) -> None:
    assert foreign(module) & {"asyncio", "threading", "subprocess", "socket", "aiohttp"} == set()


# The environment


def touches_environment(tree: ast.AST) -> bool:
    touched = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name("os"), attr) if attr in touched:
                return True
            case ast.ImportFrom("os", names) if touched & {alias.name for alias in names}:
                return True
    return False


def test_settings_alone_read_the_environment_but_for_known_exceptions() -> None:
    assert {name for name, tree in MODULES.items() if touches_environment(tree)} == set(ENVIRONMENT)


# Names and texts


@pytest.mark.parametrize("module", ALL)
def test_no_module_has_a_name_that_says_nothing(module: str) -> None:
    assert set(module.split(".")) & {"utils", "util", "helpers", "helper", "common", "misc", "base"} == set()


@pytest.mark.parametrize("module", ALL)
def test_every_module_says_what_it_is_for(module: str) -> None:
    text = ast.get_docstring(ALL[module]) or ""
    first, _, _ = text.partition("\n\n")
    assert first.rstrip(")`").endswith((".", ":")), f"{module} begins with {first!r}"
