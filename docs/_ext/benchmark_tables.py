"""Sphinx directives for figures from benchmarks/results: tables, their origin, who is behind.

``{benchmark-table} cpu`` with ``:table: one iteration`` and perhaps ``:optional:``, for a file that
may be missing; ``{benchmark-measured} cpu``; ``{benchmark-behind} cpu batch``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from benchmarks import tables
from benchmarks.harness import RESULTS


class _Figures(SphinxDirective):
    """Knows the result files, and that the page changes with them."""

    required_arguments = 1
    final_argument_whitespace = True

    def results(self, name: str) -> dict[str, Any]:
        self.env.note_dependency(str(RESULTS / f"{name}.json"))
        try:
            return tables.read_results(name)
        except FileNotFoundError:
            raise self.error(f"there is no benchmarks/results/{name}.json") from None


class BenchmarkTable(_Figures):
    """One table of a result file."""

    option_spec: ClassVar[dict[str, Any]] = {
        "table": directives.unchanged_required,
        "optional": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if "optional" in self.options and not (RESULTS / f"{name}.json").exists():
            command = nodes.literal("", f"python -m benchmarks {name} --write")
            return [nodes.paragraph("", "", nodes.Text("Not measured yet: "), command)]
        record = self.results(self.arguments[0])
        name = self.options.get("table", record["rows"][0]["table"])
        try:
            found = tables.table(record, name)
        except ValueError as error:
            raise self.error(str(error)) from None
        return [_table(found)]


class BenchmarkMeasured(_Figures):
    """A sentence on machine, versions and command."""

    def run(self) -> list[nodes.Node]:
        command, where = tables.measured(self.results(self.arguments[0]))
        return [nodes.paragraph("", "", nodes.literal("", command), nodes.Text(f" {where}"))]


class BenchmarkBehind(_Figures):
    """A list of what other libraries were faster at."""

    def run(self) -> list[nodes.Node]:
        records = [self.results(name) for name in self.arguments[0].split()]
        lines = [line for record in records for line in tables.behind(record)]
        if not lines:
            return [nodes.paragraph("", "Nothing, among what was measured.")]
        items = [nodes.list_item("", nodes.paragraph("", line)) for line in lines]
        return [nodes.bullet_list("", *items)]


def _table(found: tables.Table) -> nodes.Node:
    columns = len(found.header)
    group = nodes.tgroup(cols=columns)
    group += [nodes.colspec(colwidth=1) for _ in range(columns)]
    group += nodes.thead("", _row(found.header))
    group += nodes.tbody("", *map(_row, found.rows))
    table = nodes.table("", group, classes=["benchmark"])
    # Wide tables scroll by themselves, not the page.
    return nodes.container("", table, classes=["benchmark-figures"])


def _row(cells: list[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives."""
    app.add_directive("benchmark-table", BenchmarkTable)
    app.add_directive("benchmark-measured", BenchmarkMeasured)
    app.add_directive("benchmark-behind", BenchmarkBehind)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
