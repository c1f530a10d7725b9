# SPDX-License-Identifier: Apache-2.0
"""The doctor's rules: what was seen, why it matters, and the line that mends it.

A failure stops instances from starting, moving or being counted right; a warning is something
that an operator should know before file-backed memory is turned on, or mend when there is time.
"""

from collections.abc import Sequence

from oslo_upgradecheck.upgradecheck import Code, Result

from fbm_placement import report
from fbm_placement.doctor.versions import Version, told
from fbm_placement.host import draining
from fbm_placement.host.guests import Guest
from fbm_placement.host.store import Store
from fbm_placement.plan import Observation, Target, overcommitment
from fbm_placement.settings import Settings
from fbm_placement.words import count

QEMU_NEEDED, QEMU_DISCARDS = (2, 6, 0), (2, 10, 0)
LIBVIRT_NEEDED, LIBVIRT_DISCARDS = (4, 0, 0), (4, 4, 0)
"""The spec's dependencies, and from where on Nova sets discard (MIN_*_FILE_BACKED_* in
nova/virt/libvirt/driver.py)."""


def success(details: str) -> Result:
    """Tell what was seen."""
    return Result(Code.SUCCESS, details)


def warning(details: str) -> Result:
    """Tell what an operator should know."""
    return Result(Code.WARNING, details)


def failure(details: str) -> Result:
    """Tell what has to be mended."""
    return Result(Code.FAILURE, details)


def configuration(settings: Settings, reasons: Sequence[str], doubts: Sequence[str]) -> Result:
    """Judge nova.conf by the rules by which nova-compute refuses to start."""
    if reasons:
        return failure('; '.join(reasons) + ' (nova-compute does not start so)')
    if doubts:
        return warning('; '.join(doubts))
    if not settings.enabled:
        return success(
            'disabled ([libvirt]file_backed_memory = 0); to turn it on, set it to what the store '
            'holds, MiB, with [DEFAULT]ram_allocation_ratio = 1.0 and reserved_host_memory_mb = 0'
        )
    return success(f'enabled: {settings.allocatable_mib} MiB are promised to instances')


def version(name: str, seen: Version | None, needed: Version, discards: Version) -> Result:
    """Judge the version of QEMU or libvirt."""
    if seen is None:
        return warning(
            f'the version of {name} could not be found out: expected {told(needed)} or later; is '
            'it installed on this host, and can virsh be run?'
        )
    if seen < needed:
        return failure(
            f'{name} {told(seen)} cannot back memory with files: upgrade it to {told(needed)} or '
            'later'
        )
    if seen < discards:
        return warning(
            f'{name} {told(seen)} works, but writes the memory of a guest that ends to the store: '
            f'upgrade it to {told(discards)} or later, which discards it'
        )
    return success(f'{name} {told(seen)}')


def store(
    settings: Settings, seen: Store | None, ailments: Sequence[str], edited: str | None = None
) -> Result:
    """Judge the store; before anything is enabled it is only told what would be missing.

    :param edited: libvirt's configuration file, if it is newer than the running libvirtd
    """
    if edited is not None:
        doubt = (
            f'{edited} was changed after libvirtd started, which reads it once: restart libvirtd '
            '(running guests live on)'
        )
        if not ailments:
            return warning(doubt)
        ailments = (*ailments, doubt)
    if ailments:
        text = '; '.join(ailments)
        return failure(text) if settings.enabled else warning(f'before it is turned on: {text}')
    if seen is None or seen.mount is None:
        return warning('nothing could be seen of the store')
    kind = 'a disk' if seen.is_disk else 'DRAM'
    return success(
        f'{seen.path} on {seen.mount.mount_point} ({seen.mount.filesystem}, {kind}), '
        f'{seen.free_bytes // 2**20} of {seen.size_bytes // 2**20} MiB are free'
    )


def guests(settings: Settings, all_guests: Sequence[Guest]) -> Result:
    """Judge whether the running guests are what the host should be."""
    nova = [guest for guest in all_guests if guest.is_nova]
    problem = draining.problem(settings.enabled, nova)
    if problem is not None:
        return warning(problem.text)
    if nova and not settings.enabled:
        return success(
            f'{count(len(nova), "guest", "guests")} in DRAM: turned on, this host takes nothing '
            'new until they have moved away or were stopped and started'
        )
    return success(f'{count(len(nova), "guest of Nova runs", "guests of Nova run")} as configured')


def post_copy(permitted: bool, seen: Store | None, settings: Settings) -> Result:
    """Judge post-copy: userfaultfd works on tmpfs and hugetlbfs only."""
    if not permitted:
        return success('not permitted')
    if seen is not None and not seen.is_disk:
        return success('permitted, and the store is in DRAM')
    text = (
        '[libvirt]live_migration_permit_post_copy is true, but the store is a disk (or not '
        'known): live migrations fail there; set live_migration_permit_post_copy = false'
    )
    return failure(text) if settings.enabled else warning(f'before it is turned on: {text}')


def rights(missing: Sequence[str]) -> Result:
    """Judge what Placement lets us write."""
    return failure('; '.join(missing)) if missing else success('inventory and traits can be set')


def allocations(goal: Target, seen: Observation) -> Result:
    """Judge what is allocated against what is promised."""
    excess = overcommitment(goal, seen)
    if excess is not None:
        return failure(excess)
    held = count(seen.consumers, 'instance holds', 'instances hold')
    return success(f'{held} {seen.allocated_mib} MiB')


def two_views(goal: Target, seen: Observation, dram_mib: int | None, edited: str | None) -> Result:
    """Judge whether nova-compute and the agent want the same inventory.

    :param edited: a configuration file that is newer than the running nova-compute
    """
    if edited is not None:
        return warning(
            f'{edited} was changed after nova-compute started, which reads it once: until it is '
            'restarted, the agent and nova-compute may undo what the other writes; mend what '
            '"Configuration" says, if anything, then restart nova-compute'
        )
    wanted = goal.traits(seen.traits)
    if wanted != seen.traits and goal.inventory in (None, seen.inventory):
        differ = ', '.join(sorted(wanted ^ seen.traits))
        return warning(
            f'Placement has other traits than the agent would set ({differ}); with fbm-agent '
            'running it is put right, see: fbm-agent --dry-run'
        )
    if goal.inventory is None:
        return success('disabled: the inventory is left to nova-compute')
    if seen.inventory is None:
        return warning(
            'nova-compute has not created the MEMORY_MB inventory yet: is it running on this host?'
        )
    if seen.inventory == goal.inventory:
        return success('Placement says what the agent would say')
    author = report.likely_author(seen.inventory, goal.inventory, dram_mib)
    return warning(
        f'Placement says total={seen.inventory.total} '
        f'allocation_ratio={seen.inventory.allocation_ratio} reserved={seen.inventory.reserved}, '
        f'the agent total={goal.inventory.total} allocation_ratio=1.0 '
        f'reserved={goal.inventory.reserved}. Likely written by {author}; with fbm-agent running '
        'it is put right, see: fbm-agent --dry-run'
    )


def hook(
    findings: Sequence[str],
    settings: Settings,
    *,
    unknown_to_libvirtd: bool = False,
    silent: str | None = None,
) -> Result:
    """Judge libvirt's hook.

    :param unknown_to_libvirtd: it is newer than the running libvirtd
    :param silent: why it refuses nothing
    """
    if not findings and silent is not None and settings.enabled:
        return warning(f'installed and answering, but it refuses nothing now: {silent}')
    if not findings and unknown_to_libvirtd:
        return warning(
            'installed and answering, but after libvirtd started: if there was no hook for QEMU '
            'then, libvirtd does not know this one before systemctl reload libvirtd (once)'
        )
    if not findings:
        return success('installed and answering')
    text = '; '.join(findings)
    return failure(text) if settings.enabled else warning(f'before it is turned on: {text}')


def agent(
    trouble: str | None,
    settings: Settings,
    unhealthy: Sequence[str] = (),
    *,
    runs: bool = True,
    configured: bool | None = None,
) -> Result:
    """Judge whether the agent runs, by the age of its state file, and what it says there.

    :param configured: what the agent that wrote it took nova.conf to say: enabled or not
    """
    if trouble is None and runs and configured not in (None, settings.enabled):
        was, now = ('enabled', 'disabled') if configured else ('disabled', 'enabled')
        return failure(
            f'the agent that runs was started when nova.conf said {was}, and it says {now} now: '
            'the hook refuses what nova-compute starts; restart nova-compute and fbm-agent'
        )
    if trouble is None and unhealthy and not runs:
        return failure(
            'no fbm-agent runs now (systemctl status fbm-agent); the last one kept new instances '
            'off this host: ' + '; '.join(unhealthy)
        )
    if trouble is None and unhealthy:
        return failure('it keeps new instances off this host: ' + '; '.join(unhealthy))
    if trouble is None and not runs:
        return warning(
            'it has looked at this host lately, but no fbm-agent runs now: systemctl status '
            'fbm-agent'
        )
    if trouble is None:
        return success('running: it has looked at this host lately')
    return failure(trouble) if settings.enabled else warning(f'before it is turned on: {trouble}')
