"""Door 2: ``boobench schema``: JSON Schemas for editors."""

from __future__ import annotations

import json

import click

from pytest_boobench import suite
from pytest_boobench.hosts import inventory

SCHEMAS = {"suite": suite.schema, "hosts": inventory.schema}


@click.command()
@click.argument("what", type=click.Choice(tuple(SCHEMAS)), default="suite")
def command(what: str) -> int:
    """Print the JSON Schema of suite files, or of the hosts file."""
    click.echo(json.dumps(SCHEMAS[what](), indent=2, ensure_ascii=False))
    return 0
