"""``interlock query`` queries a DNS server; ``interlock explain`` has the admin API explain an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from interlock.client import Client
from interlock.commands.options import takes
from interlock.commands.output import cell, json_option, show
from interlock.commands.target import SETTINGS, environment_of
from interlock.doctor.gather import marks_from_here
from interlock.doctor.marks import as_stage
from interlock.errors import BadSetting, ServerSilent
from interlock.settings.table import Settings
from interlock.settings.values import parse_qname, parse_type
from resolver.client import ask
from resolver.errors import AskError
from resolver.wire.messages import Transport
from support.endpoints import Endpoint
from zones.names import Name


@click.command()
@click.argument("name")
@click.argument("qtype", metavar="TYPE", default="AAAA")
@click.option("--server", metavar="ADDRESS:PORT", help="The server to query; by default the first of --dns-listen.")
@click.option("--tcp", is_flag=True, help="Query over TCP.")
@takes("dns_listen", "zone", program="up")
@json_option
def query(name: str, qtype: str, server: str | None, tcp: bool, settings: Settings, as_json: bool) -> None:
    """Query a DNS server for NAME, as in: query api.railway.internal AAAA. A single label is below the zone."""
    qname = _qname(name, settings)
    try:
        address = Endpoint.parse(server) if server else settings.dns_listen[0]
        number = parse_type(qtype)
    except ValueError as error:
        raise BadSetting(str(error)) from None
    try:
        answer = ask(address, qname, number, transport=Transport.TCP if tcp else Transport.UDP)
    except AskError as error:
        raise ServerSilent(str(error)) from None
    milliseconds = round(answer.seconds * 1000, 3)
    result = {"rcode": answer.rcode, "records": answer.records, "milliseconds": milliseconds}
    show(result, as_json, lambda _: click.echo(f"{answer.text}\n;; {milliseconds} ms"))


@click.command()
@click.argument("name")
@click.argument("qtype", metavar="TYPE", default="AAAA")
@click.option(
    "--from", "source", metavar="CLIENT", help="Explain it for this client: its address, or INSTANCE.SERVICE."
)
@takes(*SETTINGS, "agent_dir", "dns_listen", "ops_listen", "zone")
@json_option
def explain(name: str, qtype: str, source: str | None, settings: Settings, as_json: bool) -> None:
    """Show stage by stage how the answer comes about that clients of the environment get for NAME.

    On a host of the mesh it shows also whether what is answered can be reached from there, with the marks of
    'interlock doctor'. A NAME of a single label is below the zone.
    """
    client, whole = Client.of(settings), str(_qname(name, settings))
    wanted = {"name": whole, "type": qtype.upper(), "source": source, "environment": settings.environment}
    if source is None:
        environment_of(settings)
    explanation = client.get("explain", query={field: value for field, value in wanted.items() if value is not None})
    if explanation["environment"] is not None:
        found = replace(settings, environment=explanation["environment"])
        explanation["stages"] += [as_stage(mark) for mark in marks_from_here(found, whole)]
    show(explanation, as_json, _print_explanation)


def _qname(text: str, settings: Settings) -> Name:
    try:
        return parse_qname(text, settings.zone)
    except ValueError as error:
        raise BadSetting(str(error)) from None


def _print_explanation(explanation: Any) -> None:
    where = explanation["environment"] or "no environment"
    click.echo(f"{explanation['name']} {explanation['type']} in {where}: {explanation['rcode']}")
    for line in explanation["answer"]:
        click.echo(f"  {cell(line)}")
    width = max((len(stage["stage"]) for stage in explanation["stages"]), default=0)
    for stage in explanation["stages"]:
        mark = "✓" if stage["ok"] else "✗"
        click.echo(f"{mark} {stage['stage']:<{width}}  {cell(stage['detail'])}")
        if stage.get("fix"):
            click.echo(f"  {'':<{width}}  fix: {cell(stage['fix'])}")
