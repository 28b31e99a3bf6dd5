"""The table of the API: its routes, which it registers, guards and documents, and the edits that a batch may hold.

A new resource is one file in `admin.resources`, and its lines here.
"""

from __future__ import annotations

from typing import Any

from admin.auth.access import Access
from admin.http.fields import ENVIRONMENT_ID, LABEL, ConfirmQuery
from admin.http.pages import PageQuery
from admin.http.route import Route
from admin.openapi import get_openapi
from admin.resources import (
    batch,
    deleted,
    deploys,
    doctor,
    enrolments,
    environments,
    explain,
    guard,
    hosts,
    instances,
    lookups,
    mesh,
    peers,
    quotas,
    records,
    revisions,
    services,
    sign_in_links,
    tokens,
)
from admin.resources import operations as ops
from watcher.session.lookups import Lookup
from zones.records import RECORD_TYPES

ENVIRONMENTS = "/v1/environments"
ENVIRONMENT = ENVIRONMENTS + "/{environment}"
SERVICES = ENVIRONMENT + "/services"
SERVICE = SERVICES + "/{service}"
INSTANCES = SERVICE + "/instances"
INSTANCE = INSTANCES + "/{instance}"
RECORDS = ENVIRONMENT + "/records"
RECORD = RECORDS + "/{name}/{type}"
PEERS = ENVIRONMENT + "/peers"
PEER = PEERS + "/{peer}"
REVISION = ENVIRONMENT + "/revisions/{revision}"
TOKENS = ENVIRONMENT + "/tokens"
ADMIN_TOKENS = "/v1/tokens"
HOSTS = "/v1/hosts"
HOST = HOSTS + "/{host}"
GUARD = "/v1/guard"
DELETED = "/v1/deleted"

INSIDE, ROOT = Access.INSIDE, Access.ROOT
# The statuses with which routes refuse.
READ = frozenset({304, 404, 409})  # 304: of what is inside of an environment, which has an entity tag; 409: damaged
MISSING = frozenset({404})
WRITE = frozenset({404, 409, 412})
CONFLICT = frozenset({404, 409})

PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "environment": {
        "description": "the id of the environment",
        "type": "string",
        "pattern": ENVIRONMENT_ID,
        "examples": ["production"],
    },
    "service": {"description": "the name of the service", "type": "string", "pattern": LABEL, "examples": ["api"]},
    "instance": {"description": "the id of the instance", "type": "string", "pattern": LABEL, "examples": ["a1"]},
    "name": {
        "description": "the name of the records, relative to the zone",
        "type": "string",
        "minLength": 1,
        "maxLength": 190,
        "examples": ["db", "*.preview"],
    },
    "type": {"description": "the type of the records", "enum": list(RECORD_TYPES)},
    "peer": {"description": "the id of the external peer", "type": "string", "pattern": LABEL, "examples": ["laptop"]},
    "host": {"description": "the id of the host", "type": "string", "pattern": LABEL, "examples": ["h1"]},
    "revision": {"description": "the revision of the environment", "type": "integer", "minimum": 1, "examples": [7]},
    "token_id": {"description": "the id of the token", "type": "string", "pattern": "^[0-9a-f]{12}$"},
}

BATCH_EDITS: tuple[type[batch.BatchEdit], ...] = (
    services.PutService,
    services.DeleteService,
    instances.PutInstance,
    instances.DeleteInstance,
    records.PutRecord,
    records.DeleteRecord,
    peers.PutPeer,
    peers.DeletePeer,
)

ROUTES: tuple[Route, ...] = (
    *ops.ROUTES,
    Route("GET", "/openapi.json", get_openapi, "Show this description", Access.OPEN, {200: dict}),
    Route(
        "GET", ENVIRONMENTS, environments.list_environments, "List environments", Access.ANY,
        {200: environments.EnvironmentPage}, query=PageQuery,
    ),
    Route(
        "PUT", ENVIRONMENT, environments.put_environment, "Create or change an environment", ROOT,
        {200: environments.EnvironmentSummary, 201: environments.EnvironmentSummary}, body=environments.EnvironmentBody,
        query=environments.ReplaceQuery, refusals=frozenset({409, 412}),
    ),
    Route(
        "GET", ENVIRONMENT, environments.get_environment, "Show an environment and all that is in it", INSIDE,
        {200: environments.EnvironmentView}, refusals=READ,
    ),
    Route(
        "DELETE", ENVIRONMENT, environments.delete_environment, "Delete an environment", ROOT,
        {204: None}, refusals=WRITE,
    ),
    Route(
        "GET", DELETED, deleted.list_deleted, "List deleted environments that can be brought back", ROOT,
        {200: deleted.DeletedPage}, query=PageQuery, refusals=frozenset({409}),
    ),
    Route(
        "POST", ENVIRONMENT + "/undelete", deleted.post_undelete, "Bring a deleted environment back", ROOT,
        {201: environments.EnvironmentSummary}, body=deleted.UndeleteBody, refusals=CONFLICT,
    ),
    Route(
        "GET", SERVICES, services.list_services, "List services", INSIDE,
        {200: services.ServicePage}, query=PageQuery, refusals=READ,
    ),
    Route(
        "PUT", SERVICE, services.put_service, "Create, change or rename a service", INSIDE,
        {200: services.ServiceReply, 201: services.ServiceReply}, body=services.ServiceBody, query=ConfirmQuery,
        refusals=WRITE,
    ),
    Route(
        "GET", SERVICE, services.get_service, "Show a service", INSIDE,
        {200: services.ServiceReply}, refusals=READ,
    ),
    Route(
        "DELETE", SERVICE, services.delete_service, "Delete a service", INSIDE,
        {204: None}, query=ConfirmQuery, refusals=WRITE,
    ),
    Route(
        "GET", INSTANCES, instances.list_instances, "List the instances of a service", INSIDE,
        {200: instances.InstancePage}, query=PageQuery, refusals=READ,
    ),
    Route(
        "PUT", INSTANCE, instances.put_instance, "Create or change an instance", INSIDE,
        {200: instances.InstanceReply, 201: instances.InstanceReply}, body=instances.InstanceBody, refusals=WRITE,
    ),
    Route(
        "GET", INSTANCE, instances.get_instance, "Show an instance", INSIDE,
        {200: instances.InstanceReply}, refusals=READ,
    ),
    Route(
        "DELETE", INSTANCE, instances.delete_instance, "Delete an instance", INSIDE,
        {204: None}, refusals=WRITE,
    ),
    Route(
        "GET", RECORDS, records.list_records, "List custom records", INSIDE,
        {200: records.RecordPage}, query=PageQuery, refusals=READ,
    ),
    Route(
        "PUT", RECORD, records.put_record, "Set the values of a custom record", INSIDE,
        {200: records.RecordReply, 201: records.RecordReply}, body=records.RecordBody, refusals=WRITE,
    ),
    Route(
        "GET", RECORD, records.get_record, "Show a custom record", INSIDE,
        {200: records.RecordReply}, refusals=READ,
    ),
    Route(
        "DELETE", RECORD, records.delete_record, "Delete a custom record", INSIDE,
        {204: None}, refusals=WRITE,
    ),
    Route(
        "GET", PEERS, peers.list_peers, "List external peers", INSIDE,
        {200: peers.PeerPage}, query=PageQuery, refusals=READ,
    ),
    Route(
        "PUT", PEER, peers.put_peer, "Create or change an external peer", INSIDE,
        {200: peers.PeerReply, 201: peers.PeerReply}, body=peers.PeerBody, refusals=WRITE,
    ),
    Route(
        "GET", PEER, peers.get_peer, "Show an external peer", INSIDE,
        {200: peers.PeerReply}, refusals=READ,
    ),
    Route(
        "DELETE", PEER, peers.delete_peer, "Delete an external peer, which cuts it off", INSIDE,
        {204: None}, refusals=WRITE,
    ),
    Route(
        "GET", PEER + "/config", peers.get_peer_config, "Show the WireGuard configuration of an external peer", INSIDE,
        {200: str}, query=peers.ConfigQuery, refusals=CONFLICT,
    ),
    Route(
        "POST", ENVIRONMENT + "/batch", batch.post_batch, "Make several edits in one commit", INSIDE,
        {200: batch.batch_reply(BATCH_EDITS)}, body=batch.batch_body(BATCH_EDITS), query=ConfirmQuery,
        refusals=WRITE,
    ),
    Route(
        "GET", REVISION, revisions.get_revision, "Show which hosts have a revision", INSIDE,
        {200: revisions.RevisionView}, refusals=CONFLICT,
    ),
    Route(
        "GET", ENVIRONMENT + "/quota", quotas.get_quota, "Show the quota of an environment", INSIDE,
        {200: quotas.QuotaView}, refusals=CONFLICT,
    ),
    Route(
        "PUT", ENVIRONMENT + "/quota", quotas.put_quota, "Set the quota of an environment", ROOT,
        {200: quotas.QuotaView}, body=quotas.QuotaBody, refusals=CONFLICT,
    ),
    Route(
        "POST", TOKENS, tokens.post_token, "Make a token for an environment", ROOT,
        {201: tokens.TokenReply}, body=tokens.TokenBody, refusals=CONFLICT,
    ),
    Route(
        "GET", TOKENS, tokens.list_tokens, "List the tokens of an environment", ROOT,
        {200: tokens.TokenList}, refusals=CONFLICT,
    ),
    Route(
        "DELETE", TOKENS + "/{token_id}", tokens.delete_token, "Revoke a token", ROOT,
        {204: None}, refusals=CONFLICT,
    ),
    Route(
        "POST", ADMIN_TOKENS, tokens.post_admin_token, "Make an admin token", Access.ROOT_ALONE,
        {201: tokens.TokenReply}, body=tokens.TokenBody, refusals=frozenset({409}),
    ),
    Route(
        "GET", ADMIN_TOKENS, tokens.list_admin_tokens, "List the admin tokens", ROOT, {200: tokens.TokenList},
    ),
    Route(
        "DELETE", ADMIN_TOKENS + "/{token_id}", tokens.delete_admin_token, "Revoke an admin token", Access.ROOT_ALONE,
        {204: None}, refusals=MISSING,
    ),
    Route(
        "POST", "/v1/sign-in-links", sign_in_links.post_sign_in_link, "Make a link that signs a browser in, once",
        Access.ANY, {201: sign_in_links.SignInLink},
    ),
    Route(
        "GET", HOSTS, hosts.list_hosts, "List hosts", ROOT,
        {200: hosts.HostPage}, query=PageQuery,
    ),
    Route(
        "GET", HOST, hosts.get_host, "Show a host", ROOT,
        {200: hosts.HostReply}, refusals=MISSING,
    ),
    Route(
        "PUT", HOST, hosts.put_host, "Drain a host, or end the drain", ROOT,
        {200: hosts.HostReply}, body=hosts.HostBody, refusals=CONFLICT,
    ),
    Route(
        "DELETE", HOST, hosts.delete_host, "Forget a host, which ends its credential at once", ROOT,
        {204: None}, query=hosts.ForgetQuery, refusals=CONFLICT,
    ),
    Route(
        "POST", HOST + "/enrolments", enrolments.post_enrolment, "Make the token by which a host enrols", ROOT,
        {201: enrolments.EnrolmentReply}, body=enrolments.EnrolmentBody,
    ),
    Route(
        "GET", GUARD, guard.get_guard, "Show what is held because it has vanished", ROOT, {200: guard.GuardReply},
    ),
    Route(
        "POST", GUARD + "/confirm", guard.post_confirm, "Confirm that what has vanished is deleted", ROOT,
        {200: guard.GuardReply},
    ),
    Route(
        "GET", "/v1/explain", explain.get_explanation, "Explain what a name is answered with", Access.ANY,
        {200: explain.Explanation}, query=explain.ExplainQuery, refusals=CONFLICT,
    ),
    Route(
        "GET", ENVIRONMENT + "/deploys", deploys.get_environment_deploys, "Show the last attaches of an environment",
        INSIDE, {200: deploys.DeploysReply}, query=deploys.EnvironmentDeploysQuery,
    ),
    Route(
        "GET", "/v1/deploys", deploys.get_deploys, "Show the last attaches of all hosts", ROOT,
        {200: deploys.DeploysReply}, query=deploys.DeploysQuery,
    ),
    Route(
        "GET", "/v1/mesh", mesh.get_mesh, "Show the hosts and their links", ROOT, {200: mesh.MeshReply},
    ),
    Route(
        "GET", ENVIRONMENT + "/lookups", lookups.get_environment_lookups,
        "Show the look-ups of an environment as they happen", INSIDE,
        {200: Lookup}, query=lookups.LookupQuery, is_stream=True,
    ),
    Route(
        "GET", "/v1/lookups", lookups.get_lookups, "Show the look-ups of all environments as they happen", ROOT,
        {200: Lookup}, query=lookups.PlatformLookupQuery, is_stream=True,
    ),
    Route(
        "GET", "/v1/doctor", doctor.get_report, "Say what is wrong, and what to mend first", Access.ANY,
        {200: doctor.Report}, query=doctor.DoctorQuery,
    ),
)  # fmt: skip
