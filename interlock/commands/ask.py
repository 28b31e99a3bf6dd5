"""``interlock query`` queries a DNS server; ``interlock explain`` has the admin API explain an answer."""

from __future__ import annotations

from typing import Any

import click

from interlock.commands.options import takes
from interlock.commands.output import cell, json_option, show
from interlock.commands.target import SETTINGS, Target
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
@takes(*SETTINGS, "zone")
@json_option
def explain(name: str, qtype: str, settings: Settings, as_json: bool) -> None:
    """Show stage by stage how the answer comes about that clients of the environment get for NAME.

    A NAME of a single label is below the zone.
    """
    client, environment = Target.of(settings)
    whole = str(_qname(name, settings))
    explanation = client.get("explain", query={"environment": environment, "name": whole, "type": qtype.upper()})
    show(explanation, as_json, _print_explanation)


def _qname(text: str, settings: Settings) -> Name:
    try:
        return parse_qname(text, settings.zone)
    except ValueError as error:
        raise BadSetting(str(error)) from None


def _print_explanation(explanation: Any) -> None:
    click.echo(f"{explanation['name']} {explanation['type']} in {explanation['environment']}: {explanation['rcode']}")
    for line in explanation["answer"]:
        click.echo(f"  {cell(line)}")
    width = max((len(stage["stage"]) for stage in explanation["stages"]), default=0)
    for stage in explanation["stages"]:
        mark = "✓" if stage["ok"] else "✗"
        click.echo(f"{mark} {stage['stage']:<{width}}  {cell(stage['detail'])}")
