"""The docstrings below the fields of a model, for the published document.

pydantic can collect them itself (``use_attribute_docstrings``), but whenever a class is made: every start of a gateway would read
its own source. Here only who asks pays.
"""

import ast
import functools
import inspect
import sys
from itertools import pairwise

from pydantic import BaseModel

_OURS = "gateway."


def field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """By field, inherited ones too: the docstring below it, else that below the type alias it is annotated with."""
    found: dict[str, str] = {}
    for ancestor in reversed(model.__mro__):
        if not ancestor.__module__.startswith(_OURS):
            continue
        aliases = _aliases_in(ancestor.__module__)
        for node, words in _assignments(_body_of(ancestor)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                described = words or aliases.get(ast.unparse(node.annotation).removesuffix(" | None"))
                if described:
                    found[node.target.id] = described
    return found


def alias_docstrings(module: str) -> dict[str, str]:
    """By name, the docstrings below the assignments of an imported module of ours."""
    return {
        node.targets[0].id: words
        for node, words in _assignments(_syntax(module))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and words
    }


def _aliases_in(module: str) -> dict[str, str]:
    """Those of the module and of what it imports by name."""
    found = alias_docstrings(module)
    for node in _syntax(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_OURS):
            there = alias_docstrings(str(node.module))
            found.update((name.name, there[name.name]) for name in node.names if name.name in there)
    return found


def _body_of(model: type) -> tuple[ast.stmt, ...]:
    (body,) = (node.body for node in _syntax(model.__module__) if isinstance(node, ast.ClassDef) and node.name == model.__name__)
    return tuple(body)


def _assignments(body: tuple[ast.stmt, ...]) -> list[tuple[ast.stmt, str | None]]:
    """Every statement with the string that follows it."""
    return [(node, _docstring(following)) for node, following in pairwise((*body, ast.Pass()))]


def _docstring(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return inspect.cleandoc(node.value.value)
    return None


@functools.cache
def _syntax(module: str) -> tuple[ast.stmt, ...]:
    return tuple(ast.parse(inspect.getsource(sys.modules[module])).body)
