"""Bodies and their ETags."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from stagecast.rest.content import Body, Content, respond


def body(*pieces: str) -> Content:
    growing = Body()
    for piece in pieces[:-1]:
        growing.add(piece.encode())
    return growing.end(pieces[-1].encode())


CONTENT = body("{", "}")
OTHER = body("[]")


def requested(*conditions: str) -> Request:
    headers = [(b"if-none-match", condition.encode()) for condition in conditions]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


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
def test_body_with_a_known_etag_is_not_sent(conditions: tuple[str, ...]) -> None:
    response = respond(requested(*conditions), CONTENT)
    assert response.status_code == 304
    assert response.headers["etag"] == CONTENT.etag
    assert "content-type" not in response.headers
    assert "content-length" not in response.headers


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
def test_body_without_a_known_etag_is_sent(conditions: tuple[str, ...]) -> None:
    response = respond(requested(*conditions), CONTENT)
    assert response.status_code == 200
    assert response.headers["etag"] == CONTENT.etag
    assert response.headers["content-length"] == "2"
    assert response.headers["content-type"] == "application/json"
