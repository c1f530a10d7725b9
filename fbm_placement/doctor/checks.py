# SPDX-License-Identifier: Apache-2.0
"""The doctor's checks: facts in; what was seen, why it matters and how to fix it out.

A failure stops instances from starting, moving or being counted right. A warning is what an
operator should know before file-backed memory is turned on, or fix when there is time.
"""

import functools
from collections.abc import Callable

from oslo_config import cfg
from oslo_upgradecheck.upgradecheck import Result, UpgradeCommands

from fbm_placement import errors
from fbm_placement.doctor.facts import Facts, PlacementView, Version
from fbm_placement.doctor.guest_checks import guest_restarts, guests, numa_cells
from fbm_placement.doctor.results import failure, required, success, warning
from fbm_placement.host import hook_status
from fbm_placement.rules import config, publish
from fbm_placement.rules.author import likely_author, provider_config_text
from fbm_placement.text import config_error_text, count

Check = Callable[[Facts], Result]


def needs_placement(check: Callable[[Facts, PlacementView], Result]) -> Check:
    """Give a check what Placement shows; an error of Placement is for the check "Placement"."""

    def checked(facts: Facts) -> Result:
        if isinstance(facts.placement, errors.FileBackedMemoryError):
            return warning('not known, because the check "Placement" failed')
        return check(facts, facts.placement)

    return checked


def configuration(facts: Facts) -> Result:
    """Check the options by which nova-compute refuses to start."""
    if facts.forbidden:
        return failure('; '.join(facts.forbidden) + ' (nova-compute does not start with this)')
    if warnings := '; '.join(config.warnings(facts.settings)):
        return warning(warnings)
    if not facts.settings.enabled:
        return success(
            'disabled ([libvirt]file_backed_memory = 0); to turn it on, set it to what the store '
            'holds, MiB, with [DEFAULT]ram_allocation_ratio = 1.0 and reserved_host_memory_mb = 0'
        )
    return success(f'enabled: {facts.settings.allocatable_mib} MiB can be allocated to instances')


def version(facts: Facts, *, name: str, needed: Version, discards: Version) -> Result:
    """Check a version.

    :param needed: as the spec says
    :param discards: from where on Nova sets discard (MIN_*_FILE_BACKED_* in
        nova/virt/libvirt/driver.py)
    """
    seen = facts.versions.get(name)
    if seen is None:
        return warning(
            f'the version of {name} is unknown: expected {_dotted(needed)} or later; check that '
            'it is installed on this host, and that virsh runs'
        )
    if seen < needed:
        return failure(
            f'{name} {_dotted(seen)} cannot back memory with files: upgrade it to '
            f'{_dotted(needed)} or later'
        )
    if seen < discards:
        return warning(
            f'{name} {_dotted(seen)} works, but writes the memory of a guest that ends to the '
            f'store: upgrade it to {_dotted(discards)} or later, which discards it'
        )
    return success(f'{name} {_dotted(seen)}')


def store(facts: Facts) -> Result:
    seen, problems = facts.store
    texts = [problem.text for problem in problems]
    if facts.edited_qemu_conf is not None:
        edited = (
            f'{facts.edited_qemu_conf} was changed after libvirtd started, which reads it once: '
            'restart libvirtd (running guests are not affected)'
        )
        if not texts:
            return warning(edited)
        texts.append(edited)
    if texts:
        return required(facts, '; '.join(texts))
    if seen is None or seen.mount is None:
        return warning('nothing could be seen of the store')
    kind = 'a disk' if seen.is_disk else 'DRAM'
    return success(
        f'{seen.path} on {seen.mount.mount_point} ({seen.mount.filesystem}, {kind}), '
        f'{seen.free_bytes // 2**20} of {seen.size_bytes // 2**20} MiB are free'
    )


def post_copy(facts: Facts) -> Result:
    """Check post-copy: userfaultfd works on tmpfs and hugetlbfs only."""
    if not facts.post_copy:
        return success('not permitted')
    seen, _ = facts.store
    if seen is not None and not seen.is_disk:
        return success('permitted, and the store is in DRAM')
    return required(
        facts,
        '[libvirt]live_migration_permit_post_copy is true, but the store is a disk (or not '
        'known): live migrations fail there; set live_migration_permit_post_copy = false',
    )


def placement(facts: Facts) -> Result:
    if isinstance(facts.placement, errors.FileBackedMemoryError):
        raise facts.placement
    if facts.placement.warning is not None:
        return failure(facts.placement.warning)
    found = facts.placement.provider
    return success(f'{found.name} ({found.uuid}) was found')


@needs_placement
def rights(_facts: Facts, view: PlacementView) -> Result:
    """Check whether the user in ``[placement]`` may write what the agent writes."""
    missing = view.missing_rights()
    return failure('; '.join(missing)) if missing else success('inventory and traits can be set')


@needs_placement
def allocations(_facts: Facts, view: PlacementView) -> Result:
    excess = publish.overcommitment(view.goal, view.observation)
    if excess is not None:
        return failure(excess)
    held = count(view.observation.consumers, 'instance holds', 'instances hold')
    return success(f'{held} {view.observation.allocated_mib} MiB')


def _overwrite_cause(facts: Facts) -> str:
    if facts.edited_nova_conf is not None:
        return (
            f'{facts.edited_nova_conf} was changed after nova-compute started, which reads it '
            'once: until it is restarted, the agent and nova-compute may undo what the other '
            'writes; fix what "Configuration" reports, if anything, then restart nova-compute'
        )
    if facts.agent_behind is not None:
        return facts.agent_behind
    return provider_config_text(facts.provider_configs)


@needs_placement
def inventory_agreement(facts: Facts, view: PlacementView) -> Result:
    goal, seen = view.goal, view.observation
    if cause := _overwrite_cause(facts):
        return warning(cause)
    wanted = goal.traits(seen.traits)
    if wanted != seen.traits and goal.inventory in (None, seen.inventory):
        differ = ', '.join(sorted(wanted ^ seen.traits))
        return warning(
            f'Placement has other traits than the agent would set ({differ}); fbm-agent sets '
            'them while it runs, see: fbm-agent --dry-run'
        )
    if goal.inventory is None:
        return success('disabled: the inventory is left to nova-compute')
    if seen.inventory is None:
        return warning(
            'nova-compute has not created the MEMORY_MB inventory yet: is it running on this host?'
        )
    if seen.inventory == goal.inventory:
        return success('Placement has what the agent would set')
    author = likely_author(seen.inventory, goal.inventory, facts.dram_mib)
    return warning(
        f'Placement has {seen.inventory}, the agent would set '
        f'{goal.inventory}. Likely written by {author}; fbm-agent sets it '
        'while it runs, see: fbm-agent --dry-run'
    )


def agent(facts: Facts) -> Result:
    try:
        state = facts.agent_state
    except errors.HostError as exc:
        return required(facts, str(exc))
    runs, unhealthy = facts.agent_runs, '; '.join(state.unhealthy)
    behind = facts.agent_behind
    if behind is not None and state.enabled != facts.settings.enabled:
        return failure(f"{behind}; libvirt's hook goes by the agent")
    if unhealthy and not runs:
        return failure(
            'no fbm-agent runs now (systemctl status fbm-agent); the last one kept new instances '
            f'off this host: {unhealthy}'
        )
    if unhealthy:
        return failure(f'it keeps new instances off this host: {unhealthy}')
    if not runs:
        behind = (
            'its last check of this host is recent, but no fbm-agent runs now (systemctl status '
            'fbm-agent)'
        )
    if behind is not None:
        return warning(behind)
    return success('running: its last check of this host is recent')


def hook(facts: Facts) -> Result:
    if findings := facts.hook_findings:
        return required(facts, '; '.join(findings))
    reason = facts.hook_not_enforcing
    if reason is not None:
        return warning(reason)
    if facts.hook_newer_than_libvirtd:
        return warning(
            'installed, and it works, but after libvirtd started: if there was no hook for QEMU '
            'then, libvirtd does not know this one before systemctl reload libvirtd (once)'
        )
    return success(hook_status.WORKS)


CHECKS: tuple[tuple[str, Check], ...] = (
    ('Configuration', configuration),
    ('QEMU', functools.partial(version, name='QEMU', needed=(2, 6, 0), discards=(2, 10, 0))),
    ('libvirt', functools.partial(version, name='libvirt', needed=(4, 0, 0), discards=(4, 4, 0))),
    ('Store', store),
    ('Guests', guests),
    ('Guest restarts', guest_restarts),
    ('NUMA cells', numa_cells),
    ('Post-copy', post_copy),
    ('Placement', placement),
    ('Rights in Placement', rights),
    ('Allocations', allocations),
    ('nova-compute and fbm-agent', inventory_agreement),
    ('fbm-agent', agent),
    ('libvirt hook', hook),
)
"""In the order of the report."""


class Doctor(UpgradeCommands):
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._upgrade_checks = tuple(
            (name, (Doctor.result_of, {'check': check})) for name, check in CHECKS
        )

    def result_of(self, check: Check) -> Result:
        """Run a check; an error while it reads its facts is its result."""
        try:
            return check(self._facts)
        except (errors.FileBackedMemoryError, cfg.Error, ValueError, OSError) as exc:
            return failure(config_error_text(exc))
        except Exception as exc:  # noqa: BLE001 - a check that can't run hides no other
            return failure(f'{type(exc).__name__}: {exc}')


def _dotted(version: Version) -> str:
    return '.'.join(str(part) for part in version)
