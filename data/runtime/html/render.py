"""Templates to one HTML file that asks for nothing from elsewhere.

A page is a template that extends `base.html` and builds on the macros of `parts.html`, both in this package:

    {% extends "base.html" %}
    {% import "parts.html" as parts %}
    {% block main %}{{ parts.table(people) }}{{ parts.figure(plot, "Ages.") }}{% endblock %}
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data.runtime.files import write_text

TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: Path, /, **values: Any) -> str:
    """The HTML of `template`, a file that extends base.html, with `values` as its variables.

    base.html wants `title` and shows, where they are given, `lead` (a sentence) and `notes` (sentences that
    warn). Text is escaped, unknown variables are an error. The file's folder is searched before the base's.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    inline = {name: Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js")}
    environment.globals |= {"style": inline["page.css"], "script": inline["page.js"]}
    return environment.get_template(template.name).render({"lead": "", "notes": (), **values})


def write_page(path: Path, template: Path, /, **values: Any) -> None:
    """Write what `render_page` gives to `path`, whole or not at all."""
    write_text(path, render_page(template, **values))
