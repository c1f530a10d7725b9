# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json

import pytest

from fbm_placement.model import Inventory
from fbm_placement.rules.author import likely_author, provider_config_text

WANTED = Inventory(
    total=1048576, reserved=0, min_unit=1, max_unit=1048576, step_size=1, allocation_ratio=1.0
)


def reported(**changes):
    """Placement's numbers come from JSON, so that none is the same object as ours."""
    seen = Inventory(**json.loads(json.dumps(dataclasses.asdict(WANTED) | changes)))
    return dataclasses.replace(seen, max_unit=seen.total)


@pytest.mark.parametrize(
    ('seen', 'likely'),
    [
        (reported(total=65536, allocation_ratio=1.5), "the host's DRAM"),
        (reported(allocation_ratio=1.5), 'another ram_allocation_ratio'),
        (reported(reserved=512), 'reserved_host_memory_mb'),
        (reported(total=500000), 'another [libvirt]file_backed_memory'),
        (reported(total=2097152), 'another [libvirt]file_backed_memory'),
        (dataclasses.replace(WANTED, max_unit=2147483647), 'an operator or a tool'),
        (dataclasses.replace(WANTED, step_size=4), 'an operator or a tool'),
        (dataclasses.replace(WANTED, min_unit=4), 'an operator or a tool'),
    ],
)
def test_the_values_show_the_author(seen, likely):
    """nova-compute's report has a form of its own, and the total shows which nova-compute."""
    author = likely_author(seen, WANTED, 65536)
    assert likely in author
    assert author.startswith('nova-compute') == (likely != 'an operator or a tool')


def test_without_a_known_dram_no_number_is_taken_for_it():
    assert 'DRAM' not in likely_author(reported(total=1), WANTED, None)


def test_files_of_nova_compute_that_name_a_trait_of_the_agent():
    assert provider_config_text([]) == ''
    assert provider_config_text(['/etc/a.yaml', '/etc/b.yaml']) == (
        '/etc/a.yaml and /etc/b.yaml, which nova-compute reads '
        '([compute]provider_config_location), names a trait that begins with '
        'CUSTOM_FILE_BACKED_MEMORY: nova-compute sets it again and again; remove it there, then '
        'restart nova-compute'
    )
