"""The shell of the API: aiohttp around the table of routes, and the calls that routes make.

It holds no state of jobs. Every call to a job has a thread of its own and a time limit, and there
are only so many of them; what a request says is checked before any is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raystream.errors import RaystreamError
from raystream.ops.http import asking
from raystream.ops.http.answers import Answer, Refused, answer, problem
from raystream.ops.http.feed import Feed
from raystream.ops.http.openapi import description, places
from raystream.ops.http.pages import FOLDER, page
from raystream.ops.http.routes import PREFIX, READ_S, ROUTES, Route
from raystream.ops.http.security import HEADERS, Door
from raystream.ops.http.view import JobsView
from raystream.runtime import calls

if TYPE_CHECKING:
    from aiohttp import web

READS_MAX = 16
CHANGES_MAX = 4
"""Calls that run at the same time; a job that does not answer holds some of them for a while."""


class Calls:
    """Calls to jobs, each in a thread, at most so many at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way = 0

    async def make(self, act: Callable[[], Any], seconds: float) -> Any:
        """Wait for a call, but not for ever.

        Raises: Refused where it takes too long, or too many are under way.
        """
        if self._under_way >= self._most:
            raise Refused(503, "busy", "too many requests are under way", hint="try again soon")
        self._under_way += 1
        future = asyncio.wrap_future(calls.begin(act, "http call"))
        future.add_done_callback(self._over)
        try:
            return await asyncio.wait_for(asyncio.shield(future), seconds)
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise Refused(
                504,
                "no_answer",
                f"there was no answer within {seconds:g} s",
                hint="what was asked for may still be under way: look at the job",
            ) from error

    def _over(self, future: asyncio.Future[Any]) -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()  # looked at: nobody may be waiting for it any more


class Api:
    """Answers requests about the jobs of a view.

    ``patience_s`` is the limit of every call, in place of what each route says.
    """

    def __init__(
        self,
        jobs: JobsView,
        door: Door,
        *,
        patience_s: float | None = None,
        every_s: float = 1.0,
        static: Path = FOLDER,
    ) -> None:
        self._jobs = jobs
        self._door = door
        self._patience_s = patience_s
        self._static = static
        self._reads, self._changes = Calls(READS_MAX), Calls(CHANGES_MAX)
        self._feed = Feed(partial(self._reads.make, jobs.list, patience_s or READ_S), every_s)

    def app(self) -> web.Application:
        """Make the application that aiohttp serves."""
        from aiohttp import web

        @web.middleware
        async def guarded(request: web.Request, handler: Any) -> web.StreamResponse:
            return await self._guarded(request, handler)

        app = web.Application(middlewares=[guarded], client_max_size=asking.BODY_BYTES_MAX)
        for route in ROUTES:
            app.router.add_route(route.method, f"{PREFIX}{route.path}", self._acts(route))
        app.router.add_get("/", self._index, allow_head=False)
        app.router.add_get("/static/{path:.+}", self._page, allow_head=False)
        app.on_response_prepare.append(_add_headers)
        app.on_shutdown.append(self._shut)
        return app

    async def _guarded(self, request: web.Request, act: Any) -> web.StreamResponse:
        """Let in who may come, and say in JSON why others may not."""
        from aiohttp import web

        headers = request.headers
        try:
            hosts = headers.getall("Host", [])
            self._door.check_host(hosts)
            site = headers.get("Sec-Fetch-Site")
            self._door.check_origin(headers.getall("Origin", []), hosts[0], site)
            if request.match_info.handler not in (self._index, self._page):
                given = headers.getall("Authorization", [])
                self._door.check_token(given, changes=request.method not in ("GET", "HEAD"))
            response: web.StreamResponse = await act(request)
        except RaystreamError as error:
            return _sent(problem(error))
        except web.HTTPException as error:
            return _sent(problem(_from_aiohttp(error)))
        return response

    def _acts(self, route: Route) -> Any:
        special = {"/openapi.json": self._describe, "/events": self._events}.get(route.path)

        async def act(request: web.Request) -> web.StreamResponse:
            values = await _values(route, request)
            if special is not None:
                response: web.StreamResponse = await special(request, values)
                return response
            running = self._changes if route.changes else self._reads
            seconds = route.seconds if self._patience_s is None else self._patience_s
            given = await running.make(partial(self._call, route, values), seconds)
            return _sent(answer(given))

        return act

    def _call(self, route: Route, values: dict[str, Any]) -> Any:
        """Do what a route does; in a thread of its own."""
        if route.of_job is not None:
            return route.of_job(self._jobs.attach(values["job"]), values)
        assert route.of_all is not None, "a route is about one job or about all"
        return route.of_all(self._jobs, values)

    async def _describe(self, _: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return _sent(answer(description()))

    async def _events(self, request: web.Request, values: dict[str, Any]) -> web.StreamResponse:
        from aiohttp import web

        listener = self._feed.listen(values["job"])
        try:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            while (text := await listener.next()) is not None:
                await response.write(text.encode("ascii"))
        except ConnectionError:  # whoever listened has gone
            pass
        finally:
            self._feed.leave(listener)
        return response

    async def _index(self, _: web.Request) -> web.StreamResponse:
        found = page(self._static, "index.html")
        if found is None:
            return _sent(answer({"name": "raystream", "api": f"{PREFIX}/openapi.json"}))
        return _file(found)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        found = page(self._static, request.match_info["path"])
        if found is None:
            raise Refused(404, "not_found", "there is no such page")
        return _file(found)

    async def _shut(self, _: web.Application) -> None:
        await self._feed.close()


async def _values(route: Route, request: web.Request) -> dict[str, Any]:
    """Read all that a request says.

    Raises: Refused.
    """
    values: dict[str, Any] = {}
    for name in places(route):
        values[name] = asking.read_text(route.place(name), request.match_info[name])
        asking.check(route.place(name), values[name], name)
    query = list(request.query.items())
    if route.changes:
        asking.read_query({}, query)
        if "Content-Encoding" in request.headers:
            raise Refused(415, "not_json", "a body is plain JSON, not packed")
        given = asking.read_body(await request.read(), request.content_type)
    else:
        given = asking.read_query(route.takes, query)
    where = "body" if route.changes else "query"
    asking.check({"type": "object", "properties": route.takes}, given, where)
    return values | asking.with_defaults(route.takes, given)


def _from_aiohttp(error: web.HTTPException) -> Refused:
    """Say in our words what aiohttp refuses by itself."""
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    said = {
        404: "there is nothing at this path",
        405: "this path does not take that method",
        413: f"a body has at most {asking.BODY_BYTES_MAX} bytes",
    }
    code = codes.get(error.status, "malformed")
    message = said.get(error.status, "the request cannot be read")
    return Refused(
        error.status, code, message, hint=f"GET {PREFIX}/openapi.json lists what there is"
    )


def _sent(given: Answer) -> web.Response:
    from aiohttp import web

    headers = {"Content-Type": f"{given.content_type}; charset=utf-8"}
    if given.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(body=given.text.encode(), status=given.status, headers=headers)


def _file(found: tuple[bytes, str]) -> web.Response:
    from aiohttp import web

    return web.Response(body=found[0], headers={"Content-Type": found[1]})


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
