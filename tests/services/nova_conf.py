# SPDX-License-Identifier: Apache-2.0
"""The nova.conf of a compute host, option by option."""

from collections.abc import Mapping
from pathlib import Path

from tests.services.server import write_ini

Sections = dict[str, dict[str, object]]


def admin_token(url: str, token: str = 'admin') -> dict[str, str]:
    """Return [placement] for a Placement with noauth2."""
    return {'auth_type': 'admin_token', 'endpoint': url, 'token': token}


class NovaConf:
    """A file with what file-backed memory demands of ``[DEFAULT]``, and what a test adds.

    :param sections: more sections, or more options of ``[DEFAULT]``
    """

    def __init__(self, path: Path, sections: Mapping[str, Mapping[str, object]]) -> None:
        self.path = path
        default: dict[str, object] = {'ram_allocation_ratio': 1.0, 'reserved_host_memory_mb': 0}
        self.sections: Sections = {'DEFAULT': default}
        for section, options in sections.items():
            self.configure(section, **options)

    def configure(self, section: str = 'DEFAULT', **options: object) -> None:
        """Write the file with these options changed; None removes one."""
        changed = self.sections.setdefault(section, {}) | options
        self.sections[section] = {k: v for k, v in changed.items() if v is not None}
        write_ini(self.path, self.sections)
