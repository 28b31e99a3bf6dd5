"""The handler of batches: several edits of one environment in one commit, all of them or none."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from msgspec import Struct

from admin.http.inputs import read_body
from admin.http.replies import show
from admin.resources import bodies
from admin.resources.bodies import BatchBody, BatchEdit
from admin.resources.gateways import place_peers
from admin.resources.views import InstanceView, PeerView, RecordView, Revision, ServiceView, view_environment
from admin.resources.writes import write
from zones.errors import ZonesError
from zones.model import Environment

Op = Literal[
    "put-service",
    "delete-service",
    "put-instance",
    "delete-instance",
    "put-record",
    "delete-record",
    "put-peer",
    "delete-peer",
]


class BatchResult(Struct, frozen=True, omit_defaults=True):
    """What one edit left behind: the thing that was put, unless a later edit of the same batch removed it again."""

    op: Op
    service: ServiceView | None = None
    instance: InstanceView | None = None
    record: RecordView | None = None
    peer: PeerView | None = None


class BatchReply(Struct, frozen=True):
    """The results in the order of the edits, all at one revision."""

    results: tuple[BatchResult, ...]
    revision: Revision


async def post_batch(request: web.Request) -> web.Response:
    """Make several edits in one commit."""
    body = await read_body(request, BatchBody)
    try:
        wanted = await place_peers(request, [edit.edit() for edit in body.edits])
        committed = await write(request, wanted)
    except ZonesError as error:
        if error.edit is not None:
            error.field = f"edits[{error.edit}].{error.field}".removesuffix(".")
        raise
    after = committed.after
    return show(request, BatchReply(_results(after, body.edits), after.revision), after.revision)


def _results(after: Environment, wanted: tuple[BatchEdit, ...]) -> tuple[BatchResult, ...]:
    view = view_environment(after)
    services = {service.name: service for service in view.services}
    instances = {(service.name, each.id): each for service in view.services for each in service.instances}
    records = {(record.name, record.type): record for record in view.records}
    peers = {peer.id: peer for peer in view.peers}

    def result(edit: BatchEdit) -> BatchResult:
        match edit:
            case bodies.PutService():
                return BatchResult("put-service", service=services.get(edit.rename or edit.name))
            case bodies.PutInstance():
                return BatchResult("put-instance", instance=instances.get((edit.service, edit.id)))
            case bodies.PutRecord():
                return BatchResult("put-record", record=records.get((edit.name, edit.type)))
            case bodies.PutPeer():
                return BatchResult("put-peer", peer=peers.get(edit.id))
            case bodies.DeleteService():
                return BatchResult("delete-service")
            case bodies.DeleteInstance():
                return BatchResult("delete-instance")
            case bodies.DeleteRecord():
                return BatchResult("delete-record")
            case bodies.DeletePeer():
                return BatchResult("delete-peer")

    return tuple(result(edit) for edit in wanted)
