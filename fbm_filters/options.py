# SPDX-License-Identifier: Apache-2.0
"""Options of the scheduler's side, in group ``[file_backed_memory]`` of nova-scheduler's files."""

from oslo_config import cfg, types

from fbm_filters.rules import ANY, FORBIDDEN, NEEDS, Policy
from fbm_placement.conf.file_backed_memory import GROUP

SCHEDULER_OPTS = (
    cfg.BoolOpt(
        'prefilter',
        default=True,
        help="""
Let Placement itself leave out the hosts that don't fit, by traits added to its query.

Without it the filter alone rejects hosts. That works too, but only among the hosts that Placement
returned: on a cloud with more than ``[scheduler]max_placement_results`` (1000) fitting hosts for
Placement it can report "no valid host" though there is one, and a refusal has no reason that a
user can read.
""",
    ),
    cfg.StrOpt(
        'default_policy',
        default=ANY,
        choices=[
            (ANY, 'they may go to any host'),
            (FORBIDDEN, 'they stay off hosts with file-backed memory'),
        ],
        help="""
Where instances may go whose flavor and image do not mention file-backed memory.

A flavor mentions it with the extra spec ``trait:CUSTOM_FILE_BACKED_MEMORY`` = ``required`` or
``forbidden``, an image with the property of the same name = ``required``. Live migrations are
exempt: they always go to a host of the same kind as the one they come from.
""",
    ),
    cfg.ListOpt(
        'incompatible',
        item_type=types.String(choices=list(NEEDS)),
        default=list(NEEDS),
        help="""
What keeps an instance off hosts with file-backed memory, or off those whose store is a disk.

Take a need off the list where your kernel, store and releases can serve it after all; such an
instance is then scheduled as one without it. ``page_size`` keeps off every host with file-backed
memory; never take it off, as Nova starts no such guest there. The others keep off only hosts with
the trait ``CUSTOM_FILE_BACKED_MEMORY_DISK``.
""",
    ),
    cfg.IntOpt(
        'refresh_interval',
        default=60,
        min=1,
        max=3600,
        help="""
Seconds between two reads of Placement by a thread of nova-scheduler.

With ``prefilter`` it reads which traits some host has, a small answer, at least every 5 seconds.
Without it, which hosts have them. What was read is used for five of these intervals if Placement
does not answer.
""",
    ),
)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    return [(GROUP, list(SCHEDULER_OPTS))]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(SCHEDULER_OPTS, group=GROUP)


def read_policy(conf: cfg.ConfigOpts) -> Policy:
    """Read what the rules need; cfg.ConfigFileValueError: nova-scheduler must not start."""
    own = conf.file_backed_memory
    return Policy(default_policy=own.default_policy, incompatible=frozenset(own.incompatible))
