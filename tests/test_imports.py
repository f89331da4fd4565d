"""Imports point one way: every import of the package, lazy ones too, is read and held against the plan."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "onlooker"

# From the bottom up.  A room may import from lower floors, and from its own floor unless the floor is parted.
FLOORS: list[tuple[set[str], bool]] = [  # (rooms, parted: rooms of this floor do not know each other)
    ({"errors", "config", "outputs", "hub", "checkpoints"}, False),
    ({"native"}, False),
    ({"media", "text", "nn"}, True),
    ({"pixels", "vision", "bridge", "language", "weights", "quant", "reuse"}, True),
    ({"generate"}, False),
    ({"pretrained"}, False),
    ({"models"}, False),
    ({"engine"}, False),
    ({"auto", "auto_processing", "features", "pipeline"}, False),
    ({"retrieval", "train", "evaluate", "serve", "batch", "convert", "bench"}, False),
    ({"cli"}, False),
]
FLOOR_OF = {room: number for number, (rooms, _) in enumerate(FLOORS) for room in rooms}
PARTED = [parted for _, parted in FLOORS]

# Optional, or too slow for `import onlooker`: these are imported inside the function that needs them.
HEAVY = {
    *("transformers", "accelerate", "bitsandbytes", "huggingface_hub", "peft", "torchao", "sentencepiece", "google"),
    *("lancedb", "ray", "fastapi", "uvicorn", "gradio", "av", "jinja2", "pillow_heif", "flash_attn"),
    *("torchvision", "torchcodec"),
}
NO_TORCH = {
    "__init__",
    "__main__",
    "errors",
    "config",
    "hub",
    "checkpoints",
    "media",
    "text",
    "cli",
}  # not at module level
ATTENTION_BACKENDS = {"scaled_dot_product_attention", "flash_attn", "flex_attention", "flash_attn_func", "xformers"}


@dataclass(frozen=True)
class Import:
    """One import statement: who imports what, where, and when it runs."""

    source: str  # "nn.attend"
    target: str  # "torch.nn" or "onlooker.errors"
    line: int
    at_import: bool  # runs when the module is imported
    for_types: bool = False  # read by the type checker only

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in FILES.items()}


def package_of(name: str) -> list[str]:
    """The package that relative imports of a module start from."""
    parts = ["onlooker", *name.split(".")]
    return parts if FILES[name].name == "__init__.py" and name != "__init__" else parts[:-1]


def statements(
    node: ast.AST, at_import: bool = True, for_types: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    """Every import below a node, with `at_import` and `for_types` of `Import`."""
    for child in ast.iter_child_nodes(node):
        runs = at_import and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, runs, for_types
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from statements(ast.Module(child.body, []), False, True)
            yield from statements(ast.Module(child.orelse, []), runs, for_types)
        else:
            yield from statements(child, runs, for_types)


def imports_of(name: str, tree: ast.Module) -> Iterator[Import]:
    for statement, *when in statements(tree):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield Import(name, alias.name, statement.lineno, *when)
            continue
        base = statement.module or ""
        if statement.level:
            package = package_of(name)
            base = ".".join([*package[: len(package) - statement.level + 1], *filter(None, [base])])
        for alias in statement.names:
            inner = f"{base}.{alias.name}"
            is_module = inner.removeprefix("onlooker.") in FILES
            yield Import(name, inner if is_module else base, statement.lineno, *when)
    for call in ast.walk(tree):  # importlib.import_module("x") with the name written out
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("import_module") and call.args:
            argument = call.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield Import(name, argument.value.removeprefix("."), call.lineno, False)


IMPORTS = [found for name, tree in TREES.items() for found in imports_of(name, tree)]


def room(module: str) -> str:
    return module.removeprefix("onlooker.").split(".")[0]


def wrong_direction(found: Import) -> str | None:
    """Why an import goes against the plan, or None."""
    if found.source in ("__init__", "__main__") or not (found.target + ".").startswith("onlooker."):
        return None  # the front door names everything, lazily
    if found.target == "onlooker":
        return None if room(found.source) == "cli" else f"{found}: name the module, not the package's front door"
    here, there = room(found.source), room(found.target)
    unknown = [name for name in (here, there) if name not in FLOOR_OF]
    if unknown:
        return f"{found}: {unknown[0]} has no place in the plan"
    if here == there or FLOOR_OF[there] < FLOOR_OF[here]:
        return None
    if FLOOR_OF[there] > FLOOR_OF[here]:
        return f"{found}: {here} is below {there}"
    return f"{found}: {here} and {there} do not know each other" if PARTED[FLOOR_OF[here]] else None


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Closed walks of a directed graph, one for each edge that closes one in a depth-first search."""
    found, done, path = [], set(), []

    def visit(node: str) -> None:
        if node in path:
            found.append([*path[path.index(node) :], node])
        elif node not in done:
            path.append(node)
            for follower in sorted(graph.get(node, ())):
                visit(follower)
            path.pop()
            done.add(node)

    for node in sorted(graph):
        visit(node)
    return found


def test_every_import_points_the_planned_way():
    wrong = [reason for reason in map(wrong_direction, IMPORTS) if reason]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "target"),
    [("nn.attend", "onlooker.models.blip2"), ("media.image", "onlooker.nn.norm"), ("hub", "onlooker")],
)
def test_a_step_in_the_wrong_direction_is_seen(source, target):
    assert wrong_direction(Import(source, target, 1, at_import=False))


def test_lazy_and_relative_imports_are_read():
    name = next(name for name in FILES if "." in name and FILES[name].name != "__init__.py")
    code = "def f():\n    from ..errors import MediaError\n    import onlooker.cli\n"
    found = list(imports_of(name, ast.parse(code)))
    assert [each.target for each in found] == ["onlooker.errors", "onlooker.cli"]
    assert not any(each.at_import for each in found)


def test_there_is_no_import_cycle():
    graph: dict[str, set[str]] = {}
    for found in IMPORTS:
        if found.source != "__init__" and found.target.startswith("onlooker.") and not found.for_types:
            graph.setdefault(found.source, set()).add(found.target.removeprefix("onlooker."))
    assert not cycles(graph), "\n".join(" -> ".join(walk) for walk in cycles(graph))
    assert cycles({"a": {"b"}, "b": {"a"}}) == [["a", "b", "a"]]


def test_heavy_packages_are_imported_where_they_are_used():
    early = [str(found) for found in IMPORTS if found.at_import and found.target.split(".")[0] in HEAVY]
    assert not early, "\n".join(early)


def test_torch_stays_out_of_the_rooms_that_start_fast():
    early = [
        str(found)
        for found in IMPORTS
        if found.at_import and found.target.split(".")[0] == "torch" and room(found.source) in NO_TORCH
    ]
    assert not early, "\n".join(early)


def test_transformers_is_known_to_the_adapter_only():
    known = {found.source for found in IMPORTS if found.target.split(".")[0] == "transformers"}
    assert all(room(name) == "language" for name in known) and len(known) <= 1, sorted(known)


def test_only_attend_knows_attention_backends():
    knows = set()
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            called = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if called in ATTENTION_BACKENDS:
                knows.add(name)
    knows |= {found.source for found in IMPORTS if set(found.target.split(".")) & ATTENTION_BACKENDS}
    assert knows <= {"nn.attend"}, sorted(knows)


def test_files_hold_one_idea():
    long = {name: lines for name, path in FILES.items() if (lines := len(path.read_text().splitlines())) > 350}
    assert not long, f"over 350 lines; look for a second idea: {long}"
    assert not [name for name in FILES if name.split(".")[-1] in ("utils", "helpers", "common", "misc")]
    silent = [name for name, tree in TREES.items() if tree.body and not ast.get_docstring(tree)]
    assert not silent, f"a file says its one job in its first line: {silent}"
