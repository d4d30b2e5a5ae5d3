"""Requests for a list that are the same to the byte share an answer; nobody gets one older than its question."""

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Scope

from api.shared_answers import SharedAnswers
from api.v1 import router as v1


class Lists:
    """An application whose lists are made when the test lets them be."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.made = asyncio.Semaphore(0)
        self.status = 200
        routes = [Route("/v1/jobs", self.answer, methods=["GET", "POST"]), Route("/v1/jobs/one", self.answer)]
        self.shared = SharedAnswers(Starlette(routes=routes), frozenset({"/v1/jobs"}))

    async def answer(self, request: Request) -> Response:
        """The number of the answer, and who asked for it."""
        self.begun.append(request.scope["state"]["request_id"])
        number = len(self.begun)
        await self.made.acquire()
        return JSONResponse([number, request.scope["state"]["request_id"]], self.status)

    def ask(self, name: str, **changed: Any) -> asyncio.Task[tuple[int, str, Scope]]:
        """Status, body and what the request's log line is made of."""

        async def asked() -> tuple[int, str, Scope]:
            scope: Scope = {
                "type": "http",
                "method": "GET",
                "path": "/v1/jobs",
                "query_string": b"limit=50",
                "headers": [(b"authorization", b"Bearer key")],
                "state": {"request_id": name},
                **changed,
            }
            sent: list[Message] = []

            async def receive() -> Message:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"].append((b"x-request-id", name.encode()))
                sent.append(message)

            await self.shared(scope, receive, send)
            headers = dict(sent[0]["headers"])
            assert headers[b"x-request-id"] == name.encode()
            assert len(sent[0]["headers"]) == len(headers)
            return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode(), scope

        return asyncio.create_task(asked())

    async def until_begun(self, count: int) -> None:
        """So many answers are in the making, and no more come."""
        async with asyncio.timeout(30):
            while len(self.begun) < count:
                await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(self.begun) == count


def test_who_waits_together_shares_an_answer_with_headers_and_log_line_of_its_own() -> None:
    async def scenario() -> None:
        lists = Lists()
        first = lists.ask("a")
        await lists.until_begun(1)
        later = [lists.ask(name) for name in "bcd"]
        await lists.until_begun(1)
        lists.made.release()
        assert (await first)[:2] == (200, '[1,"a"]')
        await lists.until_begun(2)
        lists.made.release()
        found = await asyncio.gather(*later)
        assert [one[:2] for one in found] == [(200, '[2,"b"]')] * 3
        assert len({one[2]["route"].path for one in found}) == 1

    asyncio.run(scenario())


def test_another_query_key_method_or_path_is_another_question() -> None:
    async def scenario() -> None:
        lists = Lists()
        different: list[dict[str, Any]] = [
            {},
            {"query_string": b"limit=51"},
            {"headers": [(b"authorization", b"Bearer other")]},
            {"headers": [(b"authorization", b"Bearer key"), (b"traceparent", b"00-1")]},
            {"method": "POST"},
            {"method": "POST"},
            {"path": "/v1/jobs/one"},
            {"path": "/v1/jobs/one"},
        ]
        asked = [lists.ask(str(place), **changed) for place, changed in enumerate(different)]
        await lists.until_begun(len(different))
        for _ in different:
            lists.made.release()
        assert len({(await one)[1] for one in asked}) == len(different)

    asyncio.run(scenario())


def test_an_error_is_for_the_one_request_that_it_names() -> None:
    async def scenario() -> None:
        lists = Lists()
        lists.status = 422
        asked = [lists.ask(name) for name in "ab"]
        await lists.until_begun(1)
        lists.made.release()
        await lists.until_begun(2)
        lists.made.release()
        assert [(await one)[:2] for one in asked] == [(422, '[1,"a"]'), (422, '[2,"b"]')]

    asyncio.run(scenario())


def test_lists_are_what_names_no_single_thing() -> None:
    paths = v1.lists()
    assert {"/v1/jobs", "/v1/datasets", "/v1/usage"} <= paths
    assert not [path for path in paths if "{" in path]
