# SPDX-License-Identifier: Apache-2.0
"""Sphinx, for the documentation."""

extensions = [
    'openstackdocstheme',
    'oslo_config.sphinxconfiggen',
    'oslo_config.sphinxext',
]

project = 'fbm-placement'
copyright = 'the fbm-placement developers'  # noqa: A001 (Sphinx's name for it)
root_doc = 'index'

html_theme = 'openstackdocs'
html_static_path = ['_static']
templates_path = ['_templates']
# No script of somebody else's that counts readers.
html_theme_options = {'analytics_tracking_code': ''}
pygments_style = 'native'
openstackdocs_auto_name = False

config_generator_config_file = '../../etc/config-generator.conf'
sample_config_basename = '_static/fbm-placement'
