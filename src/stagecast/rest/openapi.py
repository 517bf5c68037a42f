"""`/openapi.json`: the two paths as the documents of their own servers describe them.

Operation ids, parameters, schemas and codes in `openapi.json` are those of Dify and Cognee, word
for word, so that a generated client fits. Added is only what this server sends as well: further
status codes, and `null` for the time of a stage that is not reached, which Dify sends, too.
Both fit into OpenAPI 3.0, the older version of the two.
"""

from __future__ import annotations

from importlib import metadata, resources

import orjson

from stagecast.rest.content import Body, Content


def describe(root_path: str) -> Content:
    """Return the document, with the path prefix of a proxy as its server."""
    document = orjson.loads(resources.files("stagecast.rest").joinpath("openapi.json").read_bytes())
    document["info"]["version"] = metadata.version("stagecast")
    if root_path:
        document["servers"] = [{"url": root_path}]
    return Body().end(orjson.dumps(document))
