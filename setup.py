"""Makes the stubs of the wire contract when the package is built; everything else is in
pyproject.toml.
"""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithStubs(build_py):
    """Also in an editable install, where the stubs stay beside the source."""

    def run(self) -> None:
        """Generate first, so that they are found as package data."""
        stubs = Path(__file__).resolve().parent / "serving" / "coverslip_serving" / "stubs.py"
        runpy.run_path(str(stubs))["generate"]()
        super().run()


setup(cmdclass={"build_py": BuildWithStubs})
