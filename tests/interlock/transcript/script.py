"""What a new user types, in order: every command, and every usual mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A command, as it is typed."""

    typed: str
    """The command line. ``TOKEN-ID`` stands for the id of the token that was made."""
    answers: Sequence[tuple[str, str]] = ()
    """What is typed when a question is asked: question → answer."""
    note: str = ""
    """What is said before it."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that the user writes."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the transcript."""

    title: str
    text: str
    steps: Sequence[Step | File]


MANIFEST = """\
environments:
  shop:
    services:
      api:
        ports: [http:8080/tcp]
        instances:
          a1: {region: eu}
          a2: {region: eu}
      web:
        ports: [http:80/tcp]
    records:
      db: {CNAME: api.railway.internal.}
  preview:
    isolated: true
    services:
      api:
"""
YES, NO = [("[y/N]", "y")], [("[y/N]", "n")]

SCRIPT: Sequence[Section] = (
    Section(
        "Finding one's way",
        "`-h`, `--help` and `help` are the same, at every command.",
        (
            Step("interlock --version"),
            Step("interlock version"),
            Step("interlock help"),
            Step("interlock help instance"),
            Step("interlock env delete --help"),
            Step("interlock serivce list", note="A word that there is not is answered with the one that was meant."),
            Step("interlock env crate shop"),
            Step("interlock env list --jsn"),
            Step("interlock config shop"),
        ),
    ),
    Section(
        "Environments",
        "",
        (
            Step("interlock env list"),
            Step("interlock env create shop"),
            Step("interlock env create Shop", note="Mistakes:"),
            Step("interlock env get shp"),
            Step("interlock env get"),
            Step("interlock env get shop"),
            Step("interlock environments ls", note="`ls`, `rm`, plurals and long forms do the same:"),
            Step("interlock env disable shop"),
            Step("interlock env enable shop"),
            Step("interlock env isolate shop"),
            Step("interlock env open shop"),
            Step("interlock env quota shop --set services=50"),
            Step("interlock env quota shop --set services=many"),
        ),
    ),
    Section(
        "Services and instances",
        "`-e` names the environment, or the variable `INTERLOCK_ENVIRONMENT`. `put` creates a thing, or changes it.",
        (
            Step("interlock service put api --port http:8080/tcp"),
            Step("interlock service put api -e shop --port 8080"),
            Step("interlock service put api -e shop --port http:8080/tcp"),
            Step("interlock service create web -e shop --wait"),
            Step("interlock service put all -e shop"),
            Step("interlock service get api -e shop"),
            Step("interlock service list -e shop"),
            Step("interlock instance put api a1 -e shop --region eu"),
            Step("interlock instance put api a2 -e shop --state starting"),
            Step("interlock instance put api a2 -e shop --state well"),
            Step("interlock instance put apy a1 -e shop"),
            Step("interlock instance wait api a1 -e shop"),
            Step("interlock instance wait api a2 -e shop --timeout 0"),
            Step("interlock instance get api a1 -e shop"),
            Step("interlock instance list -e shop"),
            Step("interlock instance list api -e shop --json"),
            Step("interlock instances ls --all"),
            Step("interlock service rename web www -e shop"),
        ),
    ),
    Section(
        "Custom records",
        "",
        (
            Step("interlock record put db CNAME api.railway.internal. -e shop"),
            Step("interlock record put db CNAME api -e shop"),
            Step("interlock record put db MX mail.example. -e shop"),
            Step("interlock record put note TXT hello -e shop --ttl 0"),
            Step("interlock record list -e shop"),
            Step("interlock record get db -e shop"),
            Step("interlock record get nothing -e shop"),
            Step("interlock record delete db A -e shop"),
        ),
    ),
    Section(
        "What is answered, and why",
        "",
        (
            Step("interlock query api.railway.internal"),
            Step("interlock query api A B C"),
            Step("interlock query nothing"),
            Step("interlock explain db -e shop"),
            Step("interlock explain nothing -e shop"),
            Step("interlock snapshot show --state-dir /tmp/nothing"),
        ),
    ),
    Section(
        "Tokens",
        "",
        (
            Step("interlock token create deploys -e shop --expires 30"),
            Step("interlock token list -e shop"),
            Step("interlock token get TOKEN-ID -e shop"),
            Step("interlock token get 000000000000 -e shop"),
            Step("interlock env list --token wrong"),
            Step("interlock token delete TOKEN-ID -e shop", YES),
            Step("interlock console", note="A link to the console signs a browser in, once."),
        ),
    ),
    Section(
        "Hosts and external peers",
        "Here two agents have registered their hosts before. What a host's own agent does needs one on this machine.",
        (
            Step("interlock host list"),
            Step("interlock host get h1 --json"),
            Step("interlock host drain h1"),
            Step("interlock host undrain h1"),
            Step("interlock host enrol h3 --environments shop --valid 2h"),
            Step("interlock host enrol h3 --valid soon"),
            Step("interlock host assign h1 shop"),
            Step("interlock host forget h9", YES),
            Step("interlock host forget h1", YES),
            Step("interlock host forget h2", YES),
            Step("interlock host rotate"),
            Step("interlock host leave"),
            Step("interlock attach -e shop --service api --instance a3 --netns a3"),
            Step("interlock detach -e shop --service api --instance a3"),
            Step("interlock mesh"),
            Step("interlock peer create laptop -e shop --output laptop.conf"),
            Step("interlock peer create laptop -e shop"),
            Step("interlock peer list -e shop"),
            Step("interlock peer get laptop -e shop"),
            Step("interlock peer config laptop -e shop"),
            Step("interlock peer delete laptop -e shop", YES),
        ),
    ),
    Section(
        "Deleting, and bringing back",
        "On a terminal, a deletion says what goes with it and asks; elsewhere, and with `--yes`, it does not ask.",
        (
            Step("interlock instance delete api a2 -e shop", YES),
            Step("interlock record delete db CNAME -e shop --yes"),
            Step("interlock service delete www -e shop", NO),
            Step("interlock service delete www -e shop", YES),
            Step("interlock service delete www -e shop"),
            Step("interlock env rm shop", YES),
            Step("interlock env list --deleted"),
            Step("interlock env undelete shop"),
            Step("interlock env undelete shop"),
            Step("interlock instance list -e shop"),
        ),
    ),
    Section(
        "All of it as a document",
        "What a document leaves out stays as it is; of what it gives, what is not in it is deleted.",
        (
            File("platform.yaml", MANIFEST),
            Step("interlock apply -f platform.yaml --dry-run"),
            Step("interlock apply -f platform.yaml", YES),
            Step("interlock apply -f platform.yaml"),
            File("wrong.yaml", "environments:\n  shop:\n    services:\n      api:\n        port: http:8080\n"),
            Step("interlock apply -f wrong.yaml"),
            Step("interlock apply -f missing.yaml"),
            Step("interlock export preview"),
        ),
    ),
    Section(
        "Looking after it",
        "",
        (
            Step("interlock backup platform.backup"),
            Step("interlock backup platform.backup"),
            Step("interlock restore --check platform.backup"),
            Step("interlock restore platform.backup --yes"),
            Step("interlock restore --check platform.yaml"),
            Step("interlock store check"),
            Step("interlock store fold"),
            Step("interlock guard show"),
            Step("interlock guard confirm", NO),
            Step("interlock completion tcsh"),
            Step("interlock env list --api http://127.0.0.1:9"),
            Step("interlock env list --state-dir /tmp/nothing"),
        ),
    ),
)
LEFT_OUT = {
    # command: why it is not in the transcript
    "up": "it serves until it is ended; the transcript is made on one",
    "resolver": "it serves until it is ended",
    "admin": "it serves until it is ended",
    "agent": "it serves until it is ended",
    "tail": "it prints look-ups until it is ended",
    "doctor": "what it finds is about the machine that it runs on",
    "demo mesh": "it serves until it is ended, and needs namespaces",
}
