"""`/openapi.json`: the two paths as the documents of their own servers describe them.

Operation ids, parameters, schemas and codes are theirs, word for word, so that a client generated
from them fits; added is only what is sent as well: further codes of this server, and `null` for a
time whose stage is not reached, which is also what Dify's own server sends.
Both fit into OpenAPI 3.0, the older version of the two.
"""

from __future__ import annotations

from typing import Any

from stagecast.rest import cognee, dify
from stagecast.rest.content import Body, Content, to_json


def describe(root_path: str) -> Content:
    """Return the document, which names what a proxy has before all paths."""
    servers = {"servers": [{"url": root_path}]} if root_path else {}
    return Body().end(to_json({**_DOCUMENT, **servers}))


def _json(**content: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return {"application/json": content}


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _described(kind: str, description: str, *, nullable: bool = False) -> dict[str, Any]:
    null = {"nullable": True} if nullable else {}
    return {"type": kind, **null, "description": description}


def _time(event: str) -> dict[str, Any]:
    """Describe when a stage was left; nullable, although the document that we follow forgets it."""
    return _described("number", f"Unix timestamp when {event}.", nullable=True)


def _envelope(status: int, code: str, message: str) -> dict[str, Any]:
    return {"summary": code, "value": {"status": status, "code": code, "message": message}}


_UNCHANGED = {"description": "Not changed since the `ETag` that `If-None-Match` names."}

_DOCUMENT_STATUS = {
    "id": _described("string", "Document identifier."),
    "indexing_status": _described(
        "string",
        "Current indexing status: `waiting`, `parsing`, `cleaning`, `splitting`, `indexing`, "
        "`completed`, or `error`.",
    ),
    "processing_started_at": _time("processing started"),
    "parsing_completed_at": _time("parsing completed"),
    "cleaning_completed_at": _time("cleaning completed"),
    "splitting_completed_at": _time("splitting completed"),
    "completed_at": _time("indexing completed"),
    "paused_at": _described(
        "number",
        "Timestamp when indexing was paused. `null` if not paused.",
        nullable=True,
    ),
    "error": _described(
        "string", "Error message if indexing failed. `null` if no error.", nullable=True
    ),
    "stopped_at": _described(
        "number",
        "Timestamp when indexing was stopped. `null` if not stopped.",
        nullable=True,
    ),
    "completed_segments": _described("integer", "Number of chunks that have been indexed."),
    "total_segments": _described("integer", "Total number of chunks to be indexed."),
}

_INDEXING_STATUS = {
    "tags": ["Documents"],
    "summary": "Get Document Indexing Status",
    "description": (
        "Check the indexing progress of documents in a batch. Returns the current processing stage "
        "and chunk completion counts for each document. Poll this endpoint until `indexing_status` "
        "reaches `completed` or `error`. The status progresses through: `waiting` → `parsing` → "
        "`cleaning` → `splitting` → `indexing` → `completed`."
    ),
    "operationId": "getDocumentIndexingStatus",
    "parameters": [
        {
            "name": "dataset_id",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "format": "uuid"},
            "description": "Knowledge base ID.",
        },
        {
            "name": "batch",
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": "Batch ID returned from document creation.",
        },
    ],
    "security": [{"KnowledgeApiKey": []}],
    "responses": {
        "200": {
            "description": "Indexing status for documents in the batch.",
            "content": _json(
                schema={
                    "type": "object",
                    "properties": {
                        "data": {
                            "type": "array",
                            "description": "List of indexing status entries.",
                            "items": {"type": "object", "properties": _DOCUMENT_STATUS},
                        }
                    },
                },
                examples={
                    "success": {
                        "summary": "Response Example",
                        "value": {
                            "data": [
                                {
                                    "id": "a8e0e5b5-78c6-4130-a5ce-25feb0e0b4ac",
                                    "indexing_status": "completed",
                                    "processing_started_at": 1741267200,
                                    "parsing_completed_at": 1741267200,
                                    "cleaning_completed_at": 1741267200,
                                    "splitting_completed_at": 1741267200,
                                    "completed_at": 1741267200,
                                    "paused_at": None,
                                    "error": None,
                                    "stopped_at": None,
                                    "completed_segments": 5,
                                    "total_segments": 5,
                                }
                            ]
                        },
                    }
                },
            ),
        },
        "304": _UNCHANGED,
        "401": {
            "description": "`unauthorized` : No access token, or one that is not valid.",
            "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}},
        },
        "403": {"description": "`forbidden` : The access token does not allow to read."},
        "404": {
            "description": "`not_found` : Knowledge base not found. / Documents not found.",
            "content": _json(
                examples={
                    "dataset_not_found": _envelope(404, "not_found", "Dataset not found."),
                    "documents_not_found": _envelope(404, "not_found", "Documents not found."),
                }
            ),
        },
        "500": {"description": "`unknown` : Internal Server Error."},
        "503": {"description": "`service_unavailable` : Try again after `Retry-After` seconds."},
    },
}

_DATASETS_STATUS = {
    "tags": ["datasets"],
    "summary": "Get Dataset Status",
    "description": (
        "Get the processing status of datasets.\n\n"
        "This endpoint retrieves the current processing status of one or more datasets,\n"
        "indicating whether they are being processed, have completed processing, or\n"
        "encountered errors during pipeline execution.\n\n"
        "## Query Parameters\n"
        "- **dataset** (List[UUID]): List of dataset UUIDs to check status for\n\n"
        "## Response\n"
        "Returns a dictionary mapping dataset IDs to their processing status:\n"
        "- **pending**: Dataset is queued for processing\n"
        "- **running**: Dataset is currently being processed\n"
        "- **completed**: Dataset processing completed successfully\n"
        "- **failed**: Dataset processing encountered an error\n\n"
        "## Error Codes\n"
        "- **500 Internal Server Error**: Error retrieving status information"
    ),
    "operationId": "get_dataset_status_api_v1_datasets_status_get",
    "parameters": [
        {
            "name": "dataset",
            "in": "query",
            "required": False,
            "schema": {
                "type": "array",
                "items": {"type": "string", "format": "uuid"},
                "default": [],
                "title": "Dataset",
            },
        }
    ],
    "responses": {
        "200": {
            "description": "Successful Response",
            "content": _json(
                schema={
                    "type": "object",
                    "additionalProperties": _schema("PipelineRunStatus"),
                    "title": "Response Get Dataset Status Api V1 Datasets Status Get",
                }
            ),
        },
        "304": _UNCHANGED,
        "401": {"description": "Unauthorized"},
        "403": {"description": "Forbidden: the key does not allow to read"},
        "422": {
            "description": "Validation Error",
            "content": _json(schema=_schema("HTTPValidationError")),
        },
        "500": {"description": "Error retrieving status information"},
    },
    "security": [{"BearerAuth": []}, {"ApiKeyAuth": []}],
}

# Wanted once there is a key. Both documents have an `ApiKeyAuth` of their own; Dify's has another
# name here.
_SECURITY_SCHEMES = {
    "KnowledgeApiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "API_KEY",
        "description": "A key, or a signed token, as `Authorization: Bearer {API_KEY}`.",
    },
    "BearerAuth": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "ApiKeyAuth": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}

_SCHEMAS = {
    "PipelineRunStatus": {
        "type": "string",
        "enum": [
            "DATASET_PROCESSING_INITIATED",
            "DATASET_PROCESSING_STARTED",
            "DATASET_PROCESSING_COMPLETED",
            "DATASET_PROCESSING_ERRORED",
        ],
        "title": "PipelineRunStatus",
    },
    "HTTPValidationError": {
        "properties": {
            "detail": {
                "items": _schema("ValidationError"),
                "type": "array",
                "title": "Detail",
            }
        },
        "type": "object",
        "title": "HTTPValidationError",
    },
    "ValidationError": {
        "properties": {
            "loc": {
                "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "type": "array",
                "title": "Location",
            },
            "msg": {"type": "string", "title": "Message"},
            "type": {"type": "string", "title": "Error Type"},
            "input": {"title": "Input"},
            "ctx": {"type": "object", "title": "Context"},
        },
        "type": "object",
        "required": ["loc", "msg", "type"],
        "title": "ValidationError",
    },
}

_DOCUMENT = {
    "openapi": "3.0.1",
    "info": {
        "title": "stagecast",
        "description": (
            "Two paths for clients that poll. A timestamp is `null` while its stage is not "
            "reached, and a paused document shows as `paused`."
        ),
        "version": "0.1.0",
    },
    "paths": {
        dify.PATH: {"get": _INDEXING_STATUS},
        cognee.PATH: {"get": _DATASETS_STATUS},
    },
    "components": {"schemas": _SCHEMAS, "securitySchemes": _SECURITY_SCHEMES},
}
