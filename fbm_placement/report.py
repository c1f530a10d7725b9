# SPDX-License-Identifier: Apache-2.0
"""Words for what a pass found: for the log, for ``systemctl status`` and for ``--dry-run``."""

import os

from fbm_placement import names, quarrel
from fbm_placement.placement import Provider
from fbm_placement.plan import Difference, HostFacts, Plan, overcommitment
from fbm_placement.reconcile import Outcome


def changes(plan: Plan) -> str:
    """Tell what was changed, in one line."""
    return ', '.join(f'{d.field} {d.seen} -> {d.wanted}' for d in plan.differences)


def overwrite(outcome: Outcome, times: int) -> str:
    """Tell that somebody else's overwrite was put right, who it likely was and what ends it."""
    seen, wanted = outcome.seen.inventory, outcome.goal.inventory
    if seen is None or wanted is None or seen == wanted:
        again = quarrel.how_often(times)
        return (
            f'the traits were changed by someone else{again} and put right: '
            f'{changes(outcome.plan)}; nova-compute may have put back older ones (libvirtd '
            'was restarted, its service enabled or disabled); else look for a tool that replaces '
            'all traits, or for another fbm-agent: those that begin with '
            f"{names.TRAIT_ENABLED} are this one's"
        )
    author = quarrel.likely_author(seen, wanted, dram_mib())
    return quarrel.describe(seen, wanted, author, times)


def status(outcome: Outcome, provider: Provider, facts: HostFacts) -> str:
    """Tell in one line how things are."""
    wanted = outcome.goal.inventory
    ill = f'; UNHEALTHY: {"; ".join(map(str, facts.unhealthy))}' if facts.unhealthy else ''
    if wanted is None:
        return f'disabled: the inventory of {provider.name} is left to nova-compute{ill}'
    much = ' (TOO MUCH)' if overcommitment(outcome.goal, outcome.seen) else ''
    return (
        f'enabled: {provider.name} offers {wanted.capacity_mib} MiB, '
        f'{outcome.seen.allocated_mib} MiB allocated{much}{ill}'
    )


def once(outcome: Outcome, provider: Provider, facts: HostFacts) -> str:
    """Tell what one pass did, for whoever ran it by hand."""
    did = changes(outcome.plan) if outcome.plan.steps else 'nothing to change'
    return f'{status(outcome, provider, facts)} ({did})'


def withdrawn(outcome: Outcome, provider: Provider) -> str:
    """Tell that the traits were taken back."""
    did = changes(outcome.plan) if outcome.plan.steps else 'there were none'
    return (
        f'withdrawn: the traits of {provider.name} are taken back ({did}); its inventory stays '
        'until nova-compute reports again'
    )


def host(facts: HostFacts) -> str:
    """Tell why the host takes no new instance; nothing where it takes them."""
    return '\n'.join(f'This host takes no new instance: {reason}' for reason in facts.unhealthy)


def dry_run(outcome: Outcome, provider: Provider, facts: HostFacts) -> str:
    """Tell what differs, in a small table: field, is, should be."""
    lines = [f'Resource provider {provider.name} ({provider.uuid})']
    if outcome.plan.differences:
        lines += _table(outcome.plan.differences)
    else:
        lines.append(f'As it should be: {status(outcome, provider, facts)}')
    if outcome.plan.waiting_for is not None:
        lines.append(outcome.plan.waiting_for)
    excess = overcommitment(outcome.goal, outcome.seen)
    if excess is not None:
        lines.append(excess)
    return '\n'.join(lines)


def _table(differences: tuple[Difference, ...]) -> list[str]:
    rows = [('field', 'is', 'should be'), *((d.field, d.seen, d.wanted) for d in differences)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f'  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}' for a, b, c in rows]


def dram_mib() -> int | None:
    """Return this host's DRAM in MiB, as libvirt and so Nova count it; None if it isn't told."""
    try:
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2**20
    except (ValueError, OSError):
        return None
