"""Exit codes of commands that fail."""

from __future__ import annotations

import click

INTERRUPTED = 130  # as shells report a program ended by Ctrl-C


class CommandFailed(click.ClickException):
    """The command failed, such as for lack of a server or of the requested object."""

    exit_code = 2
