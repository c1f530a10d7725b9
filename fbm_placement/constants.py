# SPDX-License-Identifier: Apache-2.0
"""Names that Placement, operators and both packages of this project share."""

from typing import Final

MEMORY_MB: Final = 'MEMORY_MB'
"""The standard resource class for guest memory. Its unit is MiB, despite its name."""

TRAIT_ENABLED: Final = 'CUSTOM_FILE_BACKED_MEMORY'
"""The host's state is ``enabled``: its guests' memory is file-backed."""

TRAIT_DISK: Final = 'CUSTOM_FILE_BACKED_MEMORY_DISK'
"""Enabled, and the store is neither tmpfs nor hugetlbfs, or what it is isn't known."""

TRAIT_UNHEALTHY: Final = 'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'
"""The host takes no new instance."""

OWN_TRAITS: Final = frozenset({TRAIT_ENABLED, TRAIT_DISK, TRAIT_UNHEALTHY})
"""The traits that the agent owns. It leaves every other trait alone."""

RAM_DIRECTORY: Final = 'libvirt/qemu'
"""Below memory_backing_dir; libvirt makes it, and in it a directory for each guest."""

PLACEMENT_MAX_INT: Final = 0x7FFFFFFF
"""The largest number that Placement stores in an inventory (placement.db.constants.MAX_INT)."""

MICROVERSION: Final = '1.26'
"""Of Placement's API: 1.23 brought ``errors[].code``, 1.26 a reserve as large as the total."""
