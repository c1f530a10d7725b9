# SPDX-License-Identifier: Apache-2.0
"""Sphinx, for the release notes."""

extensions = ['openstackdocstheme', 'reno.sphinxext']

project = 'fbm-placement release notes'
copyright = 'the fbm-placement developers'  # noqa: A001 (Sphinx's name for it)
root_doc = 'index'

# Release notes are of all versions, so they have none.
release = ''
version = ''

html_theme = 'openstackdocs'
pygments_style = 'native'
openstackdocs_auto_name = False
openstackdocs_auto_version = False
