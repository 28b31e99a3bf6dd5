"""Handlers of instances."""

from __future__ import annotations

from aiohttp import web

from admin.http.inputs import read_body, read_query
from admin.http.pages import InstancePage, PageQuery, cut_page
from admin.http.replies import show, show_nothing
from admin.resources.bodies import InstanceBody
from admin.resources.environments import find_environment
from admin.resources.views import view_instance, view_service
from admin.resources.writes import write
from zones.edits import DeleteInstance
from zones.model import Environment


async def put_instance(request: web.Request) -> web.Response:
    """Create an instance, which is given an address, or change it."""
    service, id_ = request.match_info["service"], request.match_info["instance"]
    wanted = (await read_body(request, InstanceBody)).edit(service, id_)
    committed = await write(request, [wanted], lambda environment: _exists(environment, service, id_))
    after = committed.after
    created = committed.before is None or not _exists(committed.before, service, id_)
    return show(request, view_instance(after, service, id_), after.revision, created=created)


async def get_instance(request: web.Request) -> web.Response:
    """Show an instance."""
    service, id_ = request.match_info["service"], request.match_info["instance"]
    environment = await find_environment(request)
    return show(request, view_instance(environment, service, id_), environment.revision)


async def delete_instance(request: web.Request) -> web.Response:
    """Delete an instance; its address is not given to another."""
    service, id_ = request.match_info["service"], request.match_info["instance"]
    wanted = DeleteInstance(service, id_)
    committed = await write(request, [wanted], lambda environment: _exists(environment, service, id_))
    return show_nothing(request, committed.after.revision)


async def list_instances(request: web.Request) -> web.Response:
    """List the instances of a service."""
    query, environment = read_query(request, PageQuery), await find_environment(request)
    service = view_service(environment, request.match_info["service"])
    instances, following = cut_page(service.instances, lambda instance: instance.id, query)
    return show(request, InstancePage(instances, following, environment.revision), environment.revision)


def _exists(environment: Environment, service: str, id_: str) -> bool:
    return service in environment.services and id_ in environment.services[service].instances
