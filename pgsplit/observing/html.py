"""The report as one HTML file: no script, nothing that is loaded, every value escaped by Jinja."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from .report import Report
from .text import TITLES, duration, number, percent


def html(report: Report) -> str:
    environment = Environment(loader=PackageLoader(__package__, "forms"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, duration=duration, number=number)
    return environment.get_template("report.html").render(report=report, titles=TITLES)

