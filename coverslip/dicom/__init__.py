"""DICOM in and out: stored pixels, files, and the identity in the header.

Importing this package keeps pydicom from saying values aloud. Its warnings quote what they complain
of ("Invalid value for VR PN: ..."), on standard error and in the log, and what stands in a header
is the identity that this package hides. So validation is turned off and what pydicom says is
dropped; errors are raised all the same. It is done once and for the whole process, because
switching it per call is not safe with threads.
"""

from __future__ import annotations

import logging
import warnings

from pydicom import config


def _drop(_: logging.LogRecord) -> bool:
    """Let nothing through: what matters is raised as well."""
    return False


config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE
config.logger.addFilter(_drop)
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
