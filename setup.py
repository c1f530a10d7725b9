# SPDX-License-Identifier: Apache-2.0
"""Only turns pbr on: before 7.1 it has no other switch, and since then the sdist still needs it.

Everything else is in pyproject.toml.
"""

import setuptools

setuptools.setup(setup_requires=['pbr'], pbr=True)
