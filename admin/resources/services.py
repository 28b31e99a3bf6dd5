"""Handlers of services."""

from __future__ import annotations

from aiohttp import web

from admin.http.inputs import read_body, read_query
from admin.http.pages import PageQuery, ServicePage, cut_page
from admin.http.replies import show, show_nothing
from admin.resources.bodies import ServiceBody
from admin.resources.environments import find_environment
from admin.resources.views import view_environment, view_service
from admin.resources.writes import write
from zones.edits import DeleteService


async def put_service(request: web.Request) -> web.Response:
    """Create a service, change it, or give it another name."""
    name = request.match_info["service"]
    wanted = (await read_body(request, ServiceBody)).edit(name)
    committed = await write(request, [wanted], lambda environment: name in environment.services)
    after = committed.after
    created = committed.before is None or not {name, wanted.rename} & committed.before.services.keys()
    return show(request, view_service(after, wanted.rename or name), after.revision, created=created)


async def get_service(request: web.Request) -> web.Response:
    """Show a service with its instances."""
    environment = await find_environment(request)
    return show(request, view_service(environment, request.match_info["service"]), environment.revision)


async def delete_service(request: web.Request) -> web.Response:
    """Delete a service with its instances and all its names."""
    name = request.match_info["service"]
    committed = await write(request, [DeleteService(name)], lambda environment: name in environment.services)
    return show_nothing(request, committed.after.revision)


async def list_services(request: web.Request) -> web.Response:
    """List the services of an environment with their instances."""
    query, environment = read_query(request, PageQuery), await find_environment(request)
    services, following = cut_page(view_environment(environment).services, lambda service: service.name, query)
    return show(request, ServicePage(services, following, environment.revision), environment.revision)
