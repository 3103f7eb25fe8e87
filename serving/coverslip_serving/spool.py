"""Files of instances while they are worked on.

Only this user may read them, and they are deleted as soon as their call is answered.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coverslip_serving.errors import SpoolFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def spooling() -> Iterator[None]:
    """Raise an error of its own if the folder is full.

    Raises
    ------
    SpoolFullError
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise SpoolFullError("the server's spool folder is full: try again in a moment") from None


class Spool:
    """Makes a folder for each instance, mode 0700.

    Parameters
    ----------
    folder : Path, optional
        Where they are made; the system's folder for temporary files if absent.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @contextmanager
    def instance_folder(self) -> Iterator[Path]:
        """A folder that is deleted afterwards with everything in it."""
        with spooling(), tempfile.TemporaryDirectory(prefix="coverslip-", dir=self._folder) as name:
            yield Path(name)
