# SPDX-License-Identifier: Apache-2.0
"""Messages about a pass: for the log, for ``systemctl status`` and for the command line."""

from collections.abc import Sequence

from fbm_placement import constants
from fbm_placement.agent.reconcile import PassResult
from fbm_placement.host.numa import dram_mib
from fbm_placement.model import HostFacts
from fbm_placement.rules.author import BY_HAND, OTHER_SIZE, likely_author, provider_config_text
from fbm_placement.rules.publish import Plan


def format_changes(plan: Plan) -> str:
    return ', '.join(f'{name} {seen} -> {wanted}' for name, seen, wanted in plan.differences)


def format_overwrite(result: PassResult, times: int, provider_configs: Sequence[str]) -> str:
    """Return that a write was undone, ``times`` in all, who likely wrote and how to end it.

    :param provider_configs: files of nova-compute that name one of the traits
    """
    seen, wanted = result.seen.inventory, result.goal.inventory
    again = '' if times == 1 else f' (overwrite {times} in this loop)'
    if seen is None or wanted is None or seen == wanted:
        cause = provider_config_text(provider_configs) or (
            'nova-compute may have written older ones (libvirtd was restarted, the compute '
            'service enabled or disabled); else find the tool that replaces all traits, or for '
            f'another fbm-agent: the traits that begin with {constants.TRAIT_ENABLED} belong to '
            "this one; one that comes back again and again may be named in nova-compute's "
            'provider.yaml ([compute]provider_config_location)'
        )
        return (
            f'another client changed the traits{again}; they were restored: '
            f'{format_changes(result.plan)}; {cause}'
        )
    author = likely_author(seen, wanted, dram_mib())
    end = (
        "To end it, set in nova.conf of this host's nova-compute [libvirt]file_backed_memory = "
        f'{wanted.total}, [DEFAULT]ram_allocation_ratio = 1.0, '
        f'[DEFAULT]reserved_host_memory_mb = {wanted.reserved}; then restart nova-compute'
    )
    if author == BY_HAND:
        end = "To end it, find the client that writes this host's inventory"
    elif author == OTHER_SIZE:
        end = (
            f'To end it, restart nova-compute; if it reports {seen.total} MiB again, it reads '
            f'other files than the agent, whose [libvirt]file_backed_memory = {wanted.total}: set '
            'the right value in both, and restart both'
        )
    return (
        f'{constants.MEMORY_MB} was overwritten{again}: found {seen}, '
        f'restored {wanted}. Likely by {author}. {end}'
    )


def format_status(result: PassResult, facts: HostFacts) -> str:
    """Return the state of host and provider in one line."""
    name, wanted = result.provider.name, result.goal.inventory
    problems = '; '.join(map(str, facts.unhealthy))
    unhealthy = f'; UNHEALTHY: {problems}' if problems else ''
    if wanted is None:
        return f'disabled: the inventory of {name} is left to nova-compute{unhealthy}'
    much = ' (TOO MUCH)' if result.overcommitment else ''
    return (
        f'enabled: {name} offers {wanted.capacity_mib} MiB, '
        f'{result.seen.allocated_mib} MiB allocated{much}{unhealthy}'
    )


def format_once(result: PassResult, facts: HostFacts) -> str:
    did = format_changes(result.plan) or 'nothing to change'
    return f'{format_status(result, facts)} ({did})'


def format_withdrawn(result: PassResult) -> str:
    did = format_changes(result.plan) or 'there were none'
    return (
        f'withdrawn: the traits of {result.provider.name} are removed ({did}); its inventory '
        'stays until nova-compute reports again'
    )


def format_dry_run(result: PassResult, facts: HostFacts) -> str:
    """Return what differs, as a small table: field, is, should be."""
    lines = [f'Resource provider {result.provider.name} ({result.provider.uuid})']
    if result.plan.differences:
        rows = [('field', 'is', 'should be'), *result.plan.differences]
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        lines += [f'  {a:<{first}}  {b:<{second}}  {c}' for a, b, c in rows]
    else:
        lines.append(f'As it should be: {format_status(result, facts)}')
    lines += filter(None, (result.plan.waiting_for, result.overcommitment))
    return '\n'.join(lines)
