"""Door 2: ``boobench schema``: JSON Schemas for editors."""

from __future__ import annotations

import click

from pytest_boobench import baseline_file, suite
from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.plain import to_json
from pytest_boobench.hosts import inventory

SCHEMAS = {"suite": suite.schema, "hosts": inventory.schema, "baseline": baseline_file.schema}


@click.command(
    epilog=show_examples(
        ("boobench schema > suite.schema.json", "for *.boobench.yaml, in an editor's yaml.schemas"),
        ("boobench schema hosts > hosts.schema.json", "for boobench.hosts.yaml"),
    )
)
@click.argument("what", type=click.Choice(tuple(SCHEMAS)), default="suite")
def command(what: str) -> int:
    """Print the JSON Schema of suite, hosts or baseline files."""
    click.echo(to_json(SCHEMAS[what]()))
    return 0
