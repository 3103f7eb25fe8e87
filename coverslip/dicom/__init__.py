"""DICOM in and out: stored pixels, files, and the identity in the header."""
