"""Invalid arguments of reporters are refused where they are passed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import stagecast

pytestmark = pytest.mark.usefixtures("running")


@pytest.mark.parametrize("labels", [{"k": 1}, {1: "v"}, ["k"], "k"])
def test_labels_that_are_no_texts_are_a_type_error(
    reporter: stagecast.Reporter, labels: Any
) -> None:
    with pytest.raises(TypeError, match=r"invalid labels .*; use a mapping of texts, such as"):
        reporter.batch("d", ["a"], labels=labels)


@pytest.mark.parametrize("worker", ["", "a\n", "x" * 257])
def test_worker_must_be_a_short_printable_text(worker: str) -> None:
    with pytest.raises(ValueError, match=r"invalid worker .*; use 1 to 256 printable characters"):
        stagecast.Reporter(worker=worker)
    wrong: Any = 7
    with pytest.raises(TypeError, match="invalid worker 7; use 1 to 256 printable characters"):
        stagecast.Reporter(worker=wrong)


@pytest.mark.parametrize(
    ("documents", "sentence"),
    [
        ("in/a.md", r"invalid documents: 'in/a.md' is not a list; use \['in/a.md'\]"),
        (Path("a.md"), r"invalid documents: .*'a.md'\) is not a list; use \[.*'a.md'\)\]"),
        (stagecast.NewDocument(document_id="a"), "invalid documents: NewDocument"),
        (7, "invalid documents: 7 is not a list"),
        ([7], "invalid document 7; use an id, a path or a NewDocument"),
    ],
)
def test_what_are_no_documents_is_a_type_error(
    reporter: stagecast.Reporter, documents: Any, sentence: str
) -> None:
    with pytest.raises(TypeError, match=sentence):
        reporter.batch("d", documents)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_id": "a/b"}, "invalid batch_id 'a/b'; use 1 to 128 characters of"),
        ({"batch_id": 7}, "invalid batch_id 7; use 1 to 128 characters of"),
        ({"on_error": "stop"}, "invalid on_error 'stop'; use 'raise' or 'continue'"),
        ({"strict": "no"}, "invalid strict 'no'; use True or False"),
        ({"obey": 0}, "invalid obey 0; use True or False"),
        ({"stall_on_no_progress": "10"}, "invalid stall_on_no_progress '10'; use a number of"),
        ({"stall_on_no_progress": -1}, "invalid stall_on_no_progress -1; use a time from 0 to"),
        ({"start_after": "5"}, "invalid start_after '5'; use a number of seconds, a timedelta, or"),
        ({"stall_after": -1}, "invalid stall_after -1; use a time from 0 to"),
        ({"fail_after": 1e30}, "invalid fail_after 1e\\+30; use a time from 0 to"),
        ({"seal_after": [5]}, "invalid seal_after \\[5\\]; use a number of seconds"),
        ({"labels": {"k": "\n"}}, "invalid labels .*; use printable characters only"),
    ],
)
def test_invalid_options_are_named(
    reporter: stagecast.Reporter, options: Any, sentence: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{sentence}"):
        reporter.batch("d", ["a"], **options)


def test_every_option_of_a_batch_arrives(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch(
        "d",
        ["a"],
        batch_id="b",
        labels={"team": "search"},
        start_after=timedelta(minutes=1),
        stall_after="2m",
        fail_after=180,
        seal_after="1h",
    ) as batch:
        assert batch.flush(60)
    actual = client.get_batch("d", "b")
    assert actual.labels == {"team": "search"}
    spans = (actual.start_after, actual.stall_after, actual.fail_after, actual.seal_after)
    assert spans == tuple(timedelta(minutes=minutes) for minutes in (1, 2, 3, 60))
