"""How Sphinx builds these pages: ``sphinx-build -W docs OUT``."""

from __future__ import annotations

from typing import Any

from crew_tx._version import __version__ as release

project = "crew_tx"
author = "crew_tx contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"crew_tx {release}"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
exclude_patterns = ["_build"]


def find_error(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Where an error is that a docstring names without its module, as they all do."""
    name = f"crew_tx.errors.{node.get('reftarget')}"
    document = node.get("refdoc", "api")
    return env.get_domain("py").resolve_xref(env, document, app.builder, "exc", name, node, content)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", find_error)
