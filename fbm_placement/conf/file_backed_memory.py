# SPDX-License-Identifier: Apache-2.0
"""The project's own options, in group ``[file_backed_memory]`` of nova.conf."""

from oslo_config import cfg

_HOOK_MODES = (
    ('enforce', 'It is refused, and the reason is told to whoever started or moved it.'),
    (
        'warn',
        "It may start or arrive, and the reason is in the system's log (journalctl -t fbm-hook).",
    ),
    ('off', 'The hook does nothing.'),
)
HOOK_MODES = tuple(mode for mode, _ in _HOOK_MODES)

GROUP = cfg.OptGroup(
    'file_backed_memory',
    title='File-backed memory, kept true',
    help="""
Options of ``fbm-agent``, which keeps Placement true about this host.

How much memory the host offers is not said here but, as for nova-compute itself, by
``[libvirt]file_backed_memory``, ``[DEFAULT]ram_allocation_ratio`` and
``[DEFAULT]reserved_host_memory_mb``.
""",
)

AGENT_OPTS = (
    cfg.StrOpt(
        'resource_provider',
        mutable=True,
        help="""
UUID or name of this host's resource provider in Placement.

Leave it unset: the agent then takes the UUID in nova-compute's own ``compute_id`` file (Nova 27
and later), and where there is none looks for a provider with this host's name, as libvirt tells it
to Nova. Set it where neither fits. ``openstack resource provider list`` shows UUIDs and names.

Possible values:

* The UUID or the name of a root provider (one without a parent).
""",
    ),
    cfg.IntOpt(
        'interval',
        default=60,
        min=5,
        max=3600,
        mutable=True,
        help="""
Seconds between two looks at Placement.

An overwritten inventory is wrong for about this long. A look at which nothing has changed costs
Placement one request. Each wait is up to a tenth shorter or longer, so that many hosts don't
march in step. After a failure the agent looks again sooner.

Related options:

* ``[compute]resource_provider_association_refresh`` (300 s): how often nova-compute looks.
""",
    ),
    cfg.StrOpt(
        'memory_backing_dir',
        mutable=True,
        help="""
Directory of the store: the files with guests' memory are below it.

Leave it unset: the agent then reads ``memory_backing_dir`` in ``/etc/libvirt/qemu.conf``, and
where that is silent takes libvirt's default, ``/var/lib/libvirt/qemu/ram``. Set it where the agent
cannot read that file, for example because libvirt runs in a container. It does not change where
libvirt puts the files.

Possible values:

* The absolute path of a directory, as libvirt sees it.
""",
    ),
    cfg.StrOpt(
        'hook_mode',
        default='enforce',
        choices=_HOOK_MODES,
        mutable=True,
        help="""
What libvirt's hook does with an instance that breaks a rule of this host.

The hook (``fbm-status hook install``) is the last gate: the only one that a forced live migration
meets. It learns of a change with the agent's next look at the host.
""",
    ),
)


def register_agent_opts(conf: cfg.ConfigOpts) -> None:
    """Register the agent's options."""
    conf.register_group(GROUP)
    conf.register_opts(AGENT_OPTS, group=GROUP)
