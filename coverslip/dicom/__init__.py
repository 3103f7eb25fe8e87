"""DICOM in and out: stored pixels, files, and the identity in the header.

Importing this package silences pydicom. Its warnings quote header values ("Invalid value for VR PN:
..."), on standard error and in the log, and header values are the identity that this package hides.
So validation is turned off and pydicom's warnings and log records are dropped; errors are raised
all the same. This is done once for the whole process, because switching it per call is not safe
with threads.
"""

from __future__ import annotations

import logging
import warnings

from pydicom import config


def _drop(_: logging.LogRecord) -> bool:
    """Drop every record: problems that matter are raised as errors as well."""
    return False


config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE
config.logger.addFilter(_drop)
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
