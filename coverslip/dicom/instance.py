"""A DICOM image in and out: pixels as stored integers, everything else as it was."""

from coverslip.dicom.parsing import Instance, read_instance
from coverslip.dicom.writing import write_instance

__all__ = ["Instance", "read_instance", "write_instance"]
