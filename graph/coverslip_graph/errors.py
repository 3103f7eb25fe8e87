"""What exporting a model refuses to do, on top of `coverslip.errors`."""

from __future__ import annotations

from coverslip.errors import CoverslipError


class ExportError(CoverslipError):
    """The exported model does not do what its definition says, or would take the place of another
    one.
    """

    code = "export"
