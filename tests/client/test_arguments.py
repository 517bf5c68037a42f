"""A wrong argument is refused before any call, in a sentence that names it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import stagecast
from stagecast.client.arguments import duration_of, seconds_of
from stagecast.client.endpoint import EndpointOptions
from tests.client.faces import NAMES, Face

SPANS = "a number of seconds, a timedelta, or a text such as '90s', '5m' or '12h'"
IDS = ("handbook", "first")


def report(**fields: Any) -> list[stagecast.DocumentReport]:
    """Return a list of one report."""
    return [stagecast.DocumentReport(**{"document_id": "a", **fields})]


def progress(**fields: Any) -> list[stagecast.DocumentReport]:
    """Return a list of one report of counters."""
    return report(progress=stagecast.Progress(**fields))


def failed(**fields: Any) -> list[stagecast.DocumentReport]:
    """Return a list of one report of an error."""
    return report(error=stagecast.DocumentError(**{"reason": "BAD", **fields}))


def new(**fields: Any) -> list[stagecast.NewDocument]:
    """Return a list of one document."""
    return [stagecast.NewDocument(**{"document_id": "a", **fields})]


MAPPING = "use a mapping of texts, such as {'source': 'crawl'}"

FIRST = datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))  # before the calendar, in UTC

REFUSED: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("get_batch", ("handbook", 5), {}, "invalid batch_id 5; use an id, as a text"),
    ("get_batch", ("handbook", None), {}, "invalid batch_id None; use an id, as a text"),
    ("get_batch", ("handbook", ""), {}, "invalid batch_id ''; use an id that is not empty"),
    ("get_batch", ("handbook", "\udcff"), {}, "invalid batch_id '\\udcff'; use a text that can"),
    ("get_document", (*IDS, b"a"), {}, "invalid document_id b'a'; use an id, as a text"),
    ("stop", (*IDS, ""), {}, "invalid document_id ''; use an id that is not empty"),
    ("history", (*IDS, ""), {}, "invalid document_id ''; use an id that is not empty"),
    ("create_batch", ("handbook", [""]), {}, "invalid document ''; use an id that is not empty"),
    ("create_batch", ("handbook", [5]), {}, "invalid document 5; use an id or a NewDocument"),
    ("create_batch", ("handbook", 5), {}, "invalid documents: 5 is not a list; use a list"),
    ("create_batch", ("handbook", new(document_id="")), {}, "invalid document_id ''; use an id"),
    ("create_batch", ("handbook", new(display_name=5)), {}, "invalid display_name 5; use a text"),
    ("create_batch", ("handbook", new(labels=["a"])), {}, f"invalid labels ['a']; {MAPPING}"),
    ("create_batch", ("handbook",), {"labels": "a"}, f"invalid labels 'a'; {MAPPING}"),
    ("create_batch", ("handbook",), {"labels": {"a": 5}}, f"invalid labels 5; {MAPPING}"),
    ("create_batch", ("handbook",), {"batch_id": ""}, "invalid batch_id ''; use an id that is"),
    ("create_batch", ("handbook",), {"stall_after": "5"}, f"invalid stall_after '5'; use {SPANS}"),
    ("create_batch", ("handbook",), {"fail_after": [5]}, f"invalid fail_after [5]; use {SPANS}"),
    ("create_batch", ("handbook",), {"seal_after": True}, f"invalid seal_after True; use {SPANS}"),
    (
        "create_batch",
        ("handbook",),
        {"more_documents_follow": "no"},
        "invalid more_documents_follow 'no'; use True or False",
    ),
    ("start_attempt", (*IDS, "a", 7), {}, "invalid worker 7; use a text"),
    ("report", (*IDS, "a"), {}, "invalid reports: 'a' is not a list; use ['a']"),
    ("report", (*IDS, report()[0]), {}, "event_time=None) is not a list; use a list"),
    ("report", (*IDS, [{}]), {}, "invalid report {}; use a DocumentReport"),
    ("report", (*IDS, report(attempt="1")), {}, "invalid attempt '1'; use a whole number"),
    ("report", (*IDS, report(attempt=2**31)), {}, "invalid attempt 2147483648; use a number up to"),
    ("report", (*IDS, report(stage=3)), {}, "invalid Stage 3; use one of WAITING, PARSING"),
    ("report", (*IDS, report(progress=3)), {}, "invalid progress 3; use a Progress"),
    (
        "report",
        (*IDS, progress(completed_segments=1.5)),
        {},
        "invalid completed_segments 1.5; use a whole number",
    ),
    ("report", (*IDS, progress(total_segments="9")), {}, "invalid total_segments '9'; use a whole"),
    ("report", (*IDS, report(error="bad")), {}, "invalid error 'bad'; use a DocumentError"),
    ("report", (*IDS, failed(message=None)), {}, "invalid message None; use a text"),
    ("report", (*IDS, report(event_time="now")), {}, "invalid event_time 'now'; use a datetime"),
    (
        "report",
        (*IDS, report(event_time=FIRST)),
        {},
        "invalid event_time datetime.datetime(",
    ),
    ("heartbeat", (*IDS, ["a"]), {}, "invalid attempts ['a']; use a mapping from document ids to"),
    ("heartbeat", (*IDS, {"a": "1"}), {}, "invalid attempt '1'; use a whole number"),
    ("heartbeat", (*IDS, {5: 1}), {}, "invalid document_id 5; use an id, as a text"),
    ("list_documents", IDS, {"states": 5}, "invalid states: 5 is not a list; use a list"),
    (
        "list_documents",
        IDS,
        {"stages": "PARSING"},
        "invalid stages: 'PARSING' is not a list; use [",
    ),
    ("list_datasets", (5,), {}, "invalid datasets: 5 is not a list; use a list"),
    ("wait", IDS, {"timeout": "5"}, f"invalid timeout '5'; use {SPANS}"),
    ("wait", IDS, {"timeout": float("nan")}, f"invalid timeout nan; use {SPANS}"),
    ("watch", IDS, {"resume_token": 5}, "invalid resume_token 5; use a text"),
    ("watch", IDS, {"follow": "no"}, "invalid follow 'no'; use True or False"),
    ("watch", IDS, {"give_up_after": None}, f"invalid give_up_after None; use {SPANS}"),
    ("watch_datasets", (), {"give_up_after": "soon"}, f"invalid give_up_after 'soon'; use {SPANS}"),
]


@pytest.mark.parametrize("name", NAMES)
async def test_wrong_argument_is_refused_in_a_sentence_that_names_it(name: str) -> None:
    face = Face(name, "127.0.0.1:1")
    for method, args, options, refusal in REFUSED:
        with pytest.raises((TypeError, ValueError)) as caught:
            await face.call(method, *args, **options)
        assert refusal in str(caught.value), (method, args, options)
        assert type(caught.value) in (TypeError, ValueError), "not one of protobuf or a codec"
        assert caught.value.__cause__ is None
    await face.close()


@pytest.mark.parametrize("kind", [stagecast.Client, stagecast.AsyncClient])
@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"address": 50051}, "invalid address 50051; use a text such as '127.0.0.1:50051'"),
        ({"key": b"secret"}, "invalid key; use a text"),
        ({"tls": "no"}, "invalid tls 'no'; use True or False"),
        ({"ca": 5}, "invalid ca 5; use the path of a file"),
        ({"timeout": [5]}, f"invalid timeout [5]; use {SPANS}"),
        ({"timeout": 0}, "invalid timeout 0; use a time that is positive and finite"),
    ],
)
def test_wrong_option_of_a_client_is_refused(
    kind: Callable[..., Any], options: dict[str, Any], refusal: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        kind(**options)
    assert str(caught.value) == refusal


def test_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(TypeError) as caught:
        stagecast.Client(["127.0.0.1:1"] * 1_000)  # type: ignore[arg-type]  # on purpose
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("span", [timedelta(minutes=5), 300, 300.0, "300s", "5m"])
def test_span_is_a_timedelta_seconds_or_a_text_with_a_unit(span: Any) -> None:
    assert seconds_of("stall_after", span) == 300
    duration = duration_of("stall_after", span)
    assert duration is not None
    assert duration.ToTimedelta() == timedelta(minutes=5)


@pytest.mark.parametrize("text", ["0s", "12h", "30d", "2w"])
def test_every_unit_of_commands_is_accepted(text: str) -> None:
    seconds = {"s": 1, "h": 3_600, "d": 86_400, "w": 604_800}
    assert seconds_of("timeout", text) == int(text[:-1]) * seconds[text[-1]]


@pytest.mark.parametrize("text", ["", "5", "5 m", "m", "-5m", "1.5h", "5M", "5y", "\u0665m"])
def test_text_without_a_whole_number_and_a_unit_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid timeout ") as caught:
        seconds_of("timeout", text)
    assert str(caught.value) == f"invalid timeout {text!r}; use {SPANS}"


def test_span_without_an_end_is_refused_where_it_is_sent() -> None:
    assert seconds_of("give_up_after", float("inf")) == float("inf")
    for span in (float("inf"), 1e12):
        with pytest.raises(ValueError, match=r"^invalid stall_after "):
            duration_of("stall_after", span)


async def test_spans_of_a_batch_may_be_texts(face: Face) -> None:
    batch = await face.call("create_batch", "handbook", [], stall_after="10m", fail_after="1h")
    assert (batch.stall_after, batch.fail_after) == (timedelta(minutes=10), timedelta(hours=1))
    assert (await face.call("wait", "handbook", batch.batch_id, timeout="1m")).state.terminal


def test_options_of_stubs_are_those_of_clients() -> None:
    options = EndpointOptions.__annotations__.keys()
    assert {name.removesuffix("_s") for name in options} == {
        "key",
        "tls",
        "ca",
        "cert",
        "cert_key",
        "timeout",
    }
