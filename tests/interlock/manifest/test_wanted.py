"""Documents of environments: what they mean, and that every mistake is named with its line."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import BadManifest
from interlock.manifest.wanted import wanted

KEY = "mK7kaWTRG5Wm6uM0Sg3m9zM6rKJxGKiIN0Ou5m3eq3k="
WHOLE = f"""\
environments:
  production:
    isolated: yes
    services:
      api:
        ports: [http:8080, "dns:53/udp"]
        instances:
          a1: {{region: eu}}
          a2:
      on:
    records:
      db: {{CNAME: api.railway.internal.}}
      txt:
        TXT:
          ttl: 5
          values: [1.10, "yes"]
    peers:
      laptop: {{public_key: {KEY}, gateway: h1}}
---
environments: {{staging: }}
"""


def test_what_a_document_means() -> None:
    production, staging = wanted(WHOLE, "f")
    assert (production.id, production.line, production.fields) == ("production", 2, {"isolated": True})
    assert production.services is not None
    assert {name: part.fields for name, part in production.services.items()} == {
        "api": {
            "ports": [
                {"name": "http", "number": 8080, "protocol": "tcp"}, {"name": "dns", "number": 53, "protocol": "udp"},
            ]
        },
        "on": {},
    }  # fmt: skip
    assert {id_: (part.fields, part.line) for id_, part in production.instances["api"].items()} == {
        "a1": ({"state": "ready", "region": "eu"}, 8), "a2": ({"state": "ready", "region": None}, 9),
    }  # fmt: skip
    assert production.records is not None
    assert {key: part.fields for key, part in production.records.items()} == {
        ("db", "CNAME"): {"ttl": 60, "values": ["api.railway.internal."]},
        ("txt", "TXT"): {"ttl": 5, "values": ["1.10", "yes"]},
    }
    assert production.peers is not None
    assert production.peers["laptop"].fields == {"public_key": KEY, "gateway": "h1"}
    assert (staging.id, staging.services, staging.records, staging.peers) == ("staging", None, None, None)


def below(*lines: str) -> str:
    """A document of the environment `p` with ``lines`` in it, from line 3 on."""
    return "\n".join(["environments:", "  p:", *(f"    {line}" for line in lines)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: there are no environments"),
        ("environments:\n  p: [", "this is no YAML"),
        ("a: b: c", "line 1: this is no YAML"),
        ("environments:\n\tp:", "line 2: this is no YAML"),
        ("- production", "line 1: the document is a mapping"),
        ("environment:\n  p:", "line 1: the document has no 'environment': it may have environments"),
        ("environments:\n  Prod:", "line 2: "),
        ("environments:\n  p:\n  p:", "line 3: 'p' stands here twice"),
        ("environments:\n  p:\n---\nenvironments:\n  p:", "line 5: the environment 'p' is on line 2 already"),
        (below("servces:"), "line 3: an environment has no 'servces'"),
        (below("enabled: perhaps"), "line 3: 'enabled' is true or false"),
        (below('enabled: "yes"'), "line 3: 'enabled' is true or false"),
        (below("services: api"), "line 3: 'services' is a mapping"),
        (below("services:", "  api:", "  _x:"), "line 5: "),
        (below("services:", "  api:", "    ports: [http]"), "line 5: 'http' is not NAME:NUMBER/PROTOCOL"),
        (below("services:", "  api:", "    ports:", "    - a:1", "    - HT_TP:1"), "line 7: "),
        (below("services:", "  api:", "    instances:", "      a1: {state: well}"), "line 6: 'well' is no state"),
        (below("services:", "  api:", "    instances:", "      a1: {address: x}"), "line 6: an instance has no 'addr"),
        (below("services:", "  api:", "    instances:", "      a1: {host: h1}"), "line 6: an instance has no 'host'"),
        (below("records:", "  db:", "    MX: x"), "line 5: the records of 'db' has no 'MX'"),
        (below("records:", "  db:", "    A: [192.0.2.1, nowhere]"), "line 5: 'nowhere' is not an IPv4 address"),
        (below("records:", "  db:", "    A:", "      ttl: soon", "      values: x"), "line 7: 'x' is not an IPv4"),
        (below("records:", "  db:", "    TXT:", "      ttl: soon", "      values: x"), "line 6: 'ttl' is a whole"),
        (below("records:", "  DB:", "    TXT: x"), "line 4: write 'DB' in lower case"),
        (below("peers:", "  laptop:", "    gateway: h1"), "line 4: the peer 'laptop' has no 'public_key'"),
        (below("peers:", "  laptop:", "    public_key: x"), "line 5: "),
        (below("services: &a", "  x: *a"), "line 3: too much is nested here"),
        ("environments: {" + ", ".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]" for n in range(9))
         + "}", "too much is nested here"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(BadManifest) as refused:
        wanted(text, "f.yaml")
    assert str(refused.value).startswith("f.yaml")
    assert said in str(refused.value)


@given(st.text(alphabet="environments:\n p{}[]&*!-'\"|>,#?@%\t\x00ä1.", max_size=80))
def test_any_text_is_environments_or_an_error_that_names_the_document(text: str) -> None:
    with pytest.raises(BadManifest, match=r"^f\.yaml") if _is_bad(text) else nullcontext():
        assert wanted(HEAD + text, "f.yaml")


HEAD = "environments:\n p: "


def _is_bad(text: str) -> bool:
    try:
        wanted(HEAD + text, "f.yaml")
    except BadManifest:
        return True
    return False
