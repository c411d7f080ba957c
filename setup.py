"""The suite runs from its checkout: an editable install brings what it needs, and nothing else can be built of it."""

import sys

from setuptools import setup

if not {"bdist_wheel", "sdist"}.isdisjoint(sys.argv):
    sys.exit("error: the suite is run from its checkout and is no package: there, `make env` sets it up")
setup()
