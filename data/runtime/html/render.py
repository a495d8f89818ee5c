"""HTML pages that open offline, from templates that extend `base.html` and use the macros of `parts.html`:

{% extends "base.html" %}
{% import "parts.html" as parts %}
{% block main %}{{ parts.table(people) }}{{ parts.figure(plot, "Ages.") }}{% endblock %}
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: Path, /, **values: Any) -> str:
    """Render a template with `values` as its variables: text is escaped, an unknown variable is an error.

    base.html needs `title`; optional are `lead` (a sentence) and `notes` (sentences that warn). Templates are
    searched in the file's folder before this package's.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, file in (("style", "page.css"), ("script", "page.js")):
        environment.globals[name] = Markup((TEMPLATES / file).read_text(encoding="utf-8"))
    page = environment.get_template(template.name).render({"lead": "", "notes": (), **values})
    return page.encode("utf-8", "backslashreplace").decode()  # names of files may not be UTF-8
