"""The one table of routes: it registers the handlers, guards them, and documents them."""

from __future__ import annotations

from admin.http.pages import EnvironmentPage, HostPage, InstancePage, PageQuery, PeerPage, RecordPage, ServicePage
from admin.http.route import Access, Route
from admin.openapi import get_openapi
from admin.resources import batch, environments, explain, hosts, instances, peers, records, revisions, services, views
from admin.resources import operations as ops
from admin.resources import tokens as environment_tokens
from admin.resources.bodies import (
    BatchBody,
    EnvironmentBody,
    HostBody,
    InstanceBody,
    PeerBody,
    RecordBody,
    ServiceBody,
    TokenBody,
)

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
TOKENS = ENVIRONMENT + "/tokens"
HOSTS = "/v1/hosts"
HOST = HOSTS + "/{host}"

INSIDE, ROOT = Access.INSIDE, Access.ROOT
SHOWN = frozenset({304, 404})
LISTED = frozenset({404})
WRITTEN = frozenset({404, 409, 412})
IN_THE_WAY = frozenset({404, 409})

ROUTES: tuple[Route, ...] = (
    *ops.ROUTES,
    Route("GET", "/openapi.json", get_openapi, "This description", Access.OPEN, {200: dict}),
    Route(
        "GET", ENVIRONMENTS, environments.list_environments, "List environments", Access.ANY,
        {200: EnvironmentPage}, query=PageQuery,
    ),
    Route(
        "PUT", ENVIRONMENT, environments.put_environment, "Create or change an environment", ROOT,
        {200: views.EnvironmentSummary, 201: views.EnvironmentSummary}, body=EnvironmentBody,
        refusals=frozenset({409, 412}),
    ),
    Route(
        "GET", ENVIRONMENT, environments.get_environment, "Show an environment and all that is in it", INSIDE,
        {200: views.EnvironmentView}, refusals=SHOWN,
    ),
    Route(
        "DELETE", ENVIRONMENT, environments.delete_environment, "Delete an environment", ROOT,
        {204: None}, refusals=WRITTEN,
    ),
    Route(
        "GET", SERVICES, services.list_services, "List services", INSIDE,
        {200: ServicePage}, query=PageQuery, refusals=SHOWN,
    ),
    Route(
        "PUT", SERVICE, services.put_service, "Create, change or rename a service", INSIDE,
        {200: views.ServiceReply, 201: views.ServiceReply}, body=ServiceBody, refusals=WRITTEN,
    ),
    Route(
        "GET", SERVICE, services.get_service, "Show a service", INSIDE,
        {200: views.ServiceReply}, refusals=SHOWN,
    ),
    Route(
        "DELETE", SERVICE, services.delete_service, "Delete a service", INSIDE,
        {204: None}, refusals=WRITTEN,
    ),
    Route(
        "GET", INSTANCES, instances.list_instances, "List the instances of a service", INSIDE,
        {200: InstancePage}, query=PageQuery, refusals=SHOWN,
    ),
    Route(
        "PUT", INSTANCE, instances.put_instance, "Create or change an instance", INSIDE,
        {200: views.InstanceReply, 201: views.InstanceReply}, body=InstanceBody, refusals=WRITTEN,
    ),
    Route(
        "GET", INSTANCE, instances.get_instance, "Show an instance", INSIDE,
        {200: views.InstanceReply}, refusals=SHOWN,
    ),
    Route(
        "DELETE", INSTANCE, instances.delete_instance, "Delete an instance", INSIDE,
        {204: None}, refusals=WRITTEN,
    ),
    Route(
        "GET", RECORDS, records.list_records, "List custom records", INSIDE,
        {200: RecordPage}, query=PageQuery, refusals=SHOWN,
    ),
    Route(
        "PUT", RECORD, records.put_record, "Set the values of a custom record", INSIDE,
        {200: views.RecordReply, 201: views.RecordReply}, body=RecordBody, refusals=WRITTEN,
    ),
    Route(
        "GET", RECORD, records.get_record, "Show a custom record", INSIDE,
        {200: views.RecordReply}, refusals=SHOWN,
    ),
    Route(
        "DELETE", RECORD, records.delete_record, "Delete a custom record", INSIDE,
        {204: None}, refusals=WRITTEN,
    ),
    Route(
        "GET", PEERS, peers.list_peers, "List external peers", INSIDE,
        {200: PeerPage}, query=PageQuery, refusals=SHOWN,
    ),
    Route(
        "PUT", PEER, peers.put_peer, "Create or change an external peer", INSIDE,
        {200: views.PeerReply, 201: views.PeerReply}, body=PeerBody, refusals=WRITTEN,
    ),
    Route(
        "GET", PEER, peers.get_peer, "Show an external peer", INSIDE,
        {200: views.PeerReply}, refusals=SHOWN,
    ),
    Route(
        "DELETE", PEER, peers.delete_peer, "Delete an external peer, which cuts it off", INSIDE,
        {204: None}, refusals=WRITTEN,
    ),
    Route(
        "GET", PEER + "/config", peers.get_peer_config, "The file that sets an external peer up", INSIDE,
        {200: str}, query=peers.ConfigQuery, refusals=IN_THE_WAY,
    ),
    Route(
        "POST", ENVIRONMENT + "/batch", batch.post_batch, "Make several edits in one commit", INSIDE,
        {200: batch.BatchReply}, body=BatchBody, refusals=WRITTEN,
    ),
    Route(
        "GET", ENVIRONMENT + "/revisions/{revision}", revisions.get_revision, "Which hosts have a revision?", INSIDE,
        {200: revisions.RevisionView}, refusals=LISTED,
    ),
    Route(
        "POST", TOKENS, environment_tokens.post_token, "Make a token for an environment", ROOT,
        {201: views.TokenReply}, body=TokenBody, refusals=IN_THE_WAY,
    ),
    Route(
        "GET", TOKENS, environment_tokens.list_tokens, "List the tokens of an environment", ROOT,
        {200: environment_tokens.TokenList}, refusals=LISTED,
    ),
    Route(
        "DELETE", TOKENS + "/{token_id}", environment_tokens.delete_token, "Revoke a token", ROOT,
        {204: None}, refusals=LISTED,
    ),
    Route(
        "GET", HOSTS, hosts.list_hosts, "List hosts", ROOT,
        {200: HostPage}, query=PageQuery,
    ),
    Route(
        "GET", HOST, hosts.get_host, "Show a host", ROOT,
        {200: views.HostReply}, refusals=LISTED,
    ),
    Route(
        "PUT", HOST, hosts.put_host, "Drain a host, or end that", ROOT,
        {200: views.HostReply}, body=HostBody, refusals=IN_THE_WAY,
    ),
    Route(
        "DELETE", HOST, hosts.delete_host, "Forget a host that is gone for good", ROOT,
        {204: None}, refusals=IN_THE_WAY,
    ),
    Route(
        "GET", "/v1/explain", explain.get_explanation, "What is a name answered with, and why?", Access.ANY,
        {200: explain.Explanation}, query=explain.ExplainQuery, refusals=LISTED,
    ),
)  # fmt: skip
