# SPDX-License-Identifier: Apache-2.0
"""Lines of nova.conf that many tests share."""

from tests.unit import fake_placement

PLACEMENT = f"""
[placement]
auth_type = admin_token
endpoint = {fake_placement.URL}
token = {fake_placement.TOKEN}
"""

ENABLED = """
[DEFAULT]
ram_allocation_ratio = 1.0
reserved_host_memory_mb = 0
[libvirt]
file_backed_memory = 1048576
"""
