"""What goes to a terminal: no control character of a record, a value or a file name."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text of one line with everything that could steer a terminal written as an escape.

    A record is written by anybody who has the recipient: escape sequences could forge result
    lines.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
