"""`/openapi.json`: the two paths as Dify and Cognee document them.

Operation ids, parameters, schemas and codes are theirs, word for word, so that generated clients
fit. Added are only further status codes, and `null` for the time of a stage not yet reached, which
Dify sends as well. The version is OpenAPI 3.0, the older of the two.
"""

from __future__ import annotations

from importlib import metadata, resources

import orjson

from stagecast.rest.content import Body, Content


def describe(root_path: str) -> Content:
    """Return the document; the path prefix of a proxy becomes its server."""
    document = orjson.loads(resources.files("stagecast.rest").joinpath("openapi.json").read_bytes())
    document["info"]["version"] = metadata.version("stagecast")
    if root_path:
        document["servers"] = [{"url": root_path}]
    return Body().end(orjson.dumps(document))
