# SPDX-License-Identifier: Apache-2.0
"""Which of nova-compute's provider configuration files name a trait of the agent."""

import os

from fbm_placement.host.provider_config import naming_own_traits

FILE = """\
meta:
  schema_version: '1.0'
providers:
- identification:
    uuid: $COMPUTE_NODE
  traits:
    additional:
    - {}
"""


def test_files_that_name_a_trait_of_the_agent(tmp_path):
    texts = {
        'b.yaml': FILE.format('CUSTOM_FILE_BACKED_MEMORY'),
        'a.yaml': FILE.format("'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'"),
        'd.yaml': FILE.format('CUSTOM_FILE_BACKED_MEMORY_DISK'),
        'comment.yaml': FILE.format('CUSTOM_RACK_7 # not CUSTOM_FILE_BACKED_MEMORY'),
        'longer.yaml': FILE.format('CUSTOM_FILE_BACKED_MEMORY_OURS'),
        # Not read by nova-compute.
        'b.yaml.bak': FILE.format('CUSTOM_FILE_BACKED_MEMORY'),
        'b.yml': FILE.format('CUSTOM_FILE_BACKED_MEMORY'),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / 'directory.yaml').mkdir()
    (tmp_path / 'latin.yaml').write_bytes(b'\xff')
    found = naming_own_traits(f'{tmp_path}/')
    assert [os.path.relpath(path, tmp_path) for path in found] == ['a.yaml', 'b.yaml', 'd.yaml']
    assert naming_own_traits(str(tmp_path / 'away')) == ()
