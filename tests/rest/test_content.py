"""Bodies and their ETags."""

from __future__ import annotations

import pytest
from starlette.types import Message

from stagecast.rest.content import Body, Content


def body(*pieces: str) -> Content:
    growing = Body()
    for piece in pieces[:-1]:
        growing.add(piece.encode())
    return growing.end(pieces[-1].encode())


CONTENT = body("{", "}")
OTHER = body("[]")

CACHING = {"cache-control": "private, no-cache"}


async def answer(*conditions: str) -> tuple[int, dict[str, str], bytes]:
    """Return the status, headers and body of an answer to a request with these conditions."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    headers = [(b"if-none-match", condition.encode()) for condition in conditions]
    await CONTENT({"type": "http", "headers": headers}, receive, send)
    start, *parts = sent
    assert [part.get("more_body", False) for part in parts] == [True] * (len(parts) - 1) + [False]
    named = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], named, b"".join(part.get("body", b"") for part in parts)


def test_joined_chunks_are_the_joined_pieces() -> None:
    pieces = [f"é{number}," for number in range(1_000)]
    content = body(*pieces)
    assert len(content.chunks) > 1
    assert b"".join(content.chunks).decode() == "".join(pieces)


def test_etag_is_strong_and_independent_of_chunks() -> None:
    assert CONTENT.etag == body("{}").etag
    assert CONTENT.etag != OTHER.etag
    assert CONTENT.etag.startswith('"')
    assert CONTENT.etag.endswith('"')


@pytest.mark.parametrize(
    "conditions",
    [
        (CONTENT.etag,),
        (f"W/{CONTENT.etag}",),
        (f"{OTHER.etag}, {CONTENT.etag}",),
        (f'"a,b" ,W/{CONTENT.etag},"c"',),
        (OTHER.etag, CONTENT.etag),
        ("*",),
        (" * ",),
    ],
)
async def test_body_with_a_known_etag_is_not_sent(conditions: tuple[str, ...]) -> None:
    assert await answer(*conditions) == (304, {"etag": CONTENT.etag} | CACHING, b"")


@pytest.mark.parametrize(
    "conditions",
    [
        (),
        ("",),
        (OTHER.etag,),
        (f"W/{OTHER.etag}",),
        (CONTENT.etag.strip('"'),),
        (CONTENT.etag[:-2] + '"',),
        ('"*"',),
    ],
)
async def test_body_without_a_known_etag_is_sent(conditions: tuple[str, ...]) -> None:
    headers = {
        "etag": CONTENT.etag,
        "content-length": "2",
        "content-type": "application/json",
    }
    headers |= CACHING
    assert await answer(*conditions) == (200, headers, b"{}")


async def test_headers_that_middleware_adds_are_of_one_answer_only() -> None:
    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"].append((b"vary", b"origin"))

    for conditions in ([], [(b"if-none-match", b"*")]):
        await CONTENT({"type": "http", "headers": conditions}, receive, send)
    assert (await answer())[1].keys() == {"etag", "content-length", "content-type", *CACHING}
    assert (await answer("*"))[1].keys() == {"etag", *CACHING}
