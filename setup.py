"""Builds start from an empty folder and give all files one date, so that equal sources make equal wheels."""

import os
import shutil

from setuptools import setup
from setuptools.command.build import build

os.environ.setdefault("SOURCE_DATE_EPOCH", "315532800")  # 1980-01-01, the first date of the zip format


class CleanBuild(build):
    """A build that first removes what an earlier one left, such as modules that no longer exist."""

    def run(self) -> None:
        """Build in an empty folder."""
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(cmdclass={"build": CleanBuild})
