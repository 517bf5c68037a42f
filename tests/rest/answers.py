"""Response bodies of Dify's path."""

from __future__ import annotations

# The response example of Dify's documentation, with its times.
EXAMPLE = {
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
}

# A waiting document, without its id.
WAITING = {
    "indexing_status": "waiting",
    "processing_started_at": None,
    "parsing_completed_at": None,
    "cleaning_completed_at": None,
    "splitting_completed_at": None,
    "completed_at": None,
    "paused_at": None,
    "error": None,
    "stopped_at": None,
    "completed_segments": 0,
    "total_segments": 0,
}
