# SPDX-License-Identifier: Apache-2.0
"""Sphinx, for the documentation."""

import os
import subprocess
import sysconfig
from pathlib import Path

extensions = [
    'openstackdocstheme',
    'oslo_config.sphinxconfiggen',
    'oslo_config.sphinxext',
]

project = 'fbm-placement'
copyright = 'the fbm-placement developers'  # noqa: A001 (Sphinx's name for it)
root_doc = 'index'
# A reference to what does not exist is a warning, and so an error.
nitpicky = True

html_theme = 'openstackdocs'
html_static_path = ['_static']
templates_path = ['_templates']
# No script that counts readers.
html_theme_options = {'analytics_tracking_code': ''}
pygments_style = 'native'
openstackdocs_auto_name = False

config_generator_config_file = '../../etc/config-generator.conf'
sample_config_basename = '_static/fbm-placement'

man_pages = [
    ('cli/fbm-agent', 'fbm-agent', 'keep Placement correct on this compute host', [], 1),
    ('cli/fbm-status', 'fbm-status', 'check this compute host and its guests', [], 1),
]


def write_help_texts(*_) -> None:
    """Write what --help prints to cli/help, for the pages of the commands."""
    target = Path(__file__).parent / 'cli/help'
    target.mkdir(exist_ok=True)
    for command in (
        'fbm-agent',
        'fbm-status',
        'fbm-status upgrade',
        'fbm-status config',
        'fbm-status guests',
        'fbm-status hook',
        'fbm-status hook install',
    ):
        program, *words = command.split()
        text = subprocess.run(
            [os.path.join(sysconfig.get_path('scripts'), program), *words, '--help'],
            env={'COLUMNS': '80'},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        (target / f'{command.replace(" ", "-")}.txt').write_text(text)


def setup(app) -> None:
    """Connect to Sphinx."""
    app.connect('builder-inited', write_help_texts)
