"""Contract of stores: documents and transitions as they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from stagecast.model import (
    ALL,
    Batch,
    DocumentState,
    EncodedDocument,
    EncodedTransition,
    Progress,
    Stage,
    Step,
    retry,
)
from stagecast.store import Encoder, ReadTransaction, Store
from tests.builders import (
    ENCODER,
    ERROR,
    counted,
    create,
    get_batch,
    get_documents,
    get_log,
    move,
    report_of,
    started,
)
from tests.store.deletion import delete_batch


async def make_varied(store: Store) -> Batch:
    """Create a batch whose documents are in all kinds of states."""
    batch = await create(store, documents=7, labels={"k": "v"})
    await move(store, batch, (1, started), (2, started), (3, report_of(stage=Stage.INDEXING)))
    await move(store, batch, (3, report_of(progress=counted(4, 9))), (4, report_of(error=ERROR)))
    await move(store, batch, (4, lambda one, _: retry(one)), (5, started))
    await move(store, batch, (2, report_of(progress=counted(1))))
    await move(store, batch, (2, report_of(stage=Stage.PARSING)))
    await move(store, batch, (2, report_of(progress=Progress(step=Step(name="pages")))))
    await move(store, batch, (5, report_of(stage=Stage.PARSING, progress=counted(1))))
    return await move(store, batch, (5, report_of(stage=Stage.COMPLETED)))


def encoded_documents(tx: ReadTransaction, of: Batch, **query: Any) -> list[EncodedDocument]:
    return list(tx.iterate_encoded_documents(of, **query))


async def check(store: Store, batch: Batch, encoder: Encoder = ENCODER) -> None:
    """Check that a batch is sent as its columns say, as of now and of each revision."""
    await check_documents(store, batch, encoder)
    for revision in range(1, batch.revision + 1):
        await check_documents(store, batch, encoder, as_of=revision)
    await check_log(store, batch, encoder)


async def check_documents(store: Store, batch: Batch, encoder: Encoder, **query: Any) -> None:
    expected = [
        (
            document.position,
            encoder.identity(document)
            + encoder.condition(document)
            + encoder.last_change(document),
        )
        for document in await get_documents(store, batch, **query)
    ]
    for run in (store.read, store.write):
        actual = await run(lambda tx: encoded_documents(tx, batch, **query), visible=ALL)
        assert actual == expected


async def check_log(store: Store, batch: Batch, encoder: Encoder) -> None:
    expected = [
        EncodedTransition(
            revision=transition.revision,
            write_id=transition.write_id,
            position=transition.document.position if transition.document else None,
            kind=transition.kind,
            previous_state=transition.previous_state,
            previous_stage=transition.previous_stage,
            event_at=transition.event_at,
            committed_at=transition.committed_at,
            identity=encoder.identity(transition.document) if transition.document else None,
            condition=encoder.condition(transition.document) if transition.document else None,
        )
        for transition in await get_log(store, batch)
    ]

    async def check_after(
        after: int, of: Sequence[EncodedTransition], document: EncodedDocument | None = None
    ) -> None:
        actual = await store.read(
            lambda tx: list(
                tx.iterate_encoded_transitions(batch, after_revision=after, document=document)
            ),
            visible=ALL,
        )
        assert actual == [transition for transition in of if transition.revision > after]

    for after in (0, 3, batch.revision - 1, batch.revision):
        await check_after(after, expected)
    for document in await store.read(lambda tx: encoded_documents(tx, batch), visible=ALL):
        mine = [one for one in expected if one.position == document[0]]
        for after in (0, mine[0].revision):
            await check_after(after, mine, document)


class EncodedContract:
    """A part of `StoreContract`."""

    async def test_what_is_sent_is_what_is_stored(self, store: Store) -> None:
        batch = await make_varied(store)
        await check(store, batch)

    @pytest.mark.parametrize(
        "query",
        [
            {"states": [DocumentState.PENDING]},
            {"states": [DocumentState.RUNNING, DocumentState.SUCCEEDED], "after_position": 1},
            {"stages": [Stage.INDEXING, Stage.COMPLETED]},
            {"states": [DocumentState.RUNNING], "stages": [Stage.INDEXING]},
            {"after_position": 5},
            {"after_position": 6},
        ],
        ids=str,
    )
    async def test_sent_documents_are_filtered(self, store: Store, query: dict[str, Any]) -> None:
        batch = await make_varied(store)
        await check_documents(store, batch, ENCODER, **query)

    async def test_sent_document_is_found_by_its_id(self, store: Store) -> None:
        batch = await make_varied(store)
        all_of_them = await store.read(lambda tx: encoded_documents(tx, batch), visible=ALL)

        def find(tx: ReadTransaction) -> list[EncodedDocument | None]:
            return [tx.find_encoded_document(batch, f"doc-{number}") for number in range(8)]

        assert await store.read(find, visible=ALL) == [*all_of_them, None]

    async def test_batch_under_the_id_of_a_deleted_one_is_sent(self, store: Store) -> None:
        await make_varied(store)
        await delete_batch(store)
        batch = await create(store, documents=2)
        await check(store, batch)

    async def test_everything_of_this_release_is_encoded(self, store: Store) -> None:
        await make_varied(store)
        assert not await store.write(lambda tx: tx.encode(100), visible=ALL)
        await check(store, await get_batch(store))
