"""What a refusal says at the command line: every kind of problem, and no advice that is HTTP's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from admin.http.problems import KINDS as PROBLEMS
from admin.http.problems import UNEXPECTED
from interlock.advice import KINDS, PHRASES, explain, typed

ROOT = Path(__file__).parents[2]
HTTP = re.compile(
    r"\?[a-z]+=|/v1/|If-(None-)?Match|Retry-After|ETag|Authorization|Content-Type|Bearer|openapi"
    r"|\b(PUT|POST|DELETE|GET) |\bsend (it|the request|JSON)"
)
RAISERS = ("admin/commits.py", "admin/auth", "admin/http", "admin/resources", "zones", "store")


def texts(path: Path) -> list[str]:
    """The texts in the file at ``path`` that a client may be told, each with X in place of what is filled in."""
    outcomes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise | ast.Return)]
    return [text for outcome in outcomes for text in _texts_in(outcome) if " " in text]


def _texts_in(node: ast.AST) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return ["".join(str(one.value) if isinstance(one, ast.Constant) else "X" for one in values)]
    return [text for below in ast.iter_child_nodes(node) for text in _texts_in(below)]


def test_every_kind_of_problem_has_its_words() -> None:
    assert KINDS.keys() == {kind.name for kind in (*PROBLEMS.values(), UNEXPECTED)} | {"refused"}
    for title, advice in KINDS.values():
        assert not HTTP.search(f"{title} {advice}")


@pytest.mark.parametrize("place", RAISERS)
def test_no_advice_of_the_api_reaches_the_command_line_as_it_is(place: str) -> None:
    files = [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py"))
    said = [text for file in files for text in texts(file)]
    assert said
    assert [text for text in said if HTTP.search(typed(text))] == []


def test_every_phrase_is_one_that_the_api_says() -> None:
    said = [text for place in RAISERS for file in _files(place) for text in (*texts(file), *_constants(file))]
    assert [pattern.pattern for pattern, _ in PHRASES if not any(pattern.search(text) for text in said)] == []


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            {"type": "urn:interlock:problem:mass-withdrawal", "title": "This deletes very much at once",
             "detail": "it deletes 9 of the 9 names of 'p': if that is meant, send it again with ?confirm=withdrawal"},
            "This deletes very much at once: it deletes 9 of the 9 names of 'p': if that is meant, give --yes",
        ),
        (
            {"type": "urn:interlock:problem:missing", "title": "There is no such thing",
             "detail": "there is no environment 'p': create it with PUT /v1/environments/p"},
            "there is no environment 'p': create it with 'interlock env create p'",
        ),
        (
            {"type": "urn:interlock:problem:no-such-path", "title": "The API has no such path",
             "detail": "/openapi.json lists the paths of the API"},
            "This API does not know the command: use an 'interlock' of the API's release",
        ),
        (
            {"type": "urn:interlock:problem:rate-limited", "title": "Too many requests",
             "detail": "too many requests: wait as long as Retry-After says, and use batches"},
            "Too many commands at once: too many requests: wait a moment, and run the command again",
        ),
        ({"type": "urn:else:new", "title": "New", "detail": "of a later release"}, "New: of a later release"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_type(problem: dict[str, str], said: str) -> None:
    assert explain(400, "Bad Request", problem) == said


def _files(place: str) -> list[Path]:
    return [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py"))


def _constants(path: Path) -> list[str]:
    return _texts_in(ast.parse(path.read_text()))
