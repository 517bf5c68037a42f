"""How commands name things: the ids that they take, and the examples in their help."""

from __future__ import annotations

import click


def check_id(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return an id as the server takes it, if one was given.

    An empty one, which a shell makes of a variable that is not set, is refused: to the server no
    document means the whole batch, and no dataset all of them.

    Raises:
        click.BadParameter: it is empty, or no text.
    """
    if value is None:
        return None
    if not value:
        raise click.BadParameter("must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # bytes of the command line that are no text
        raise click.BadParameter("must be UTF-8") from error
    return value


dataset_argument = click.argument("dataset", callback=check_id)
batch_argument = click.argument("batch", callback=check_id)
document_argument = click.argument("document", required=False, callback=check_id)


def examples(*lines: str) -> str:
    """Return the end of a command's help: what may be typed behind `stagecast`, one line each."""
    return "\n".join(["\b", "Examples:", *(f"  stagecast {line}" for line in lines)])
