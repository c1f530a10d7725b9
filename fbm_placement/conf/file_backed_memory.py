# SPDX-License-Identifier: Apache-2.0
"""The project's own options, in group ``[file_backed_memory]`` of nova.conf."""

from oslo_config import cfg

_HOOK_MODES = (
    ('enforce', 'It is refused, and the error message has the reason.'),
    ('warn', "It is allowed, and the system's log has the reason (journalctl -t fbm-hook)."),
    ('off', 'The hook does nothing.'),
)

GROUP = cfg.OptGroup(
    'file_backed_memory',
    title='File-backed memory',
    help="""
Options of ``fbm-agent``, which makes Placement report this host's file-backed memory.

The capacity is not set here but, as for nova-compute, with ``[libvirt]file_backed_memory``,
``[DEFAULT]ram_allocation_ratio`` and ``[DEFAULT]reserved_host_memory_mb``.
""",
)

AGENT_OPTS = (
    cfg.StrOpt(
        'resource_provider',
        mutable=True,
        help="""
UUID or name of this host's root resource provider in Placement.

If unset, the agent takes the UUID in nova-compute's ``compute_id`` file (Nova 27 and later) or,
without that file, the provider with the host name that libvirt reports to Nova. Set it where
neither fits. ``openstack resource provider list`` shows UUIDs and names.
""",
    ),
    cfg.IntOpt(
        'interval',
        default=60,
        min=5,
        max=3600,
        mutable=True,
        help="""
Seconds between two passes: an overwritten inventory is wrong for about this long.

A pass that finds nothing changed sends Placement one request. Each wait is up to a tenth shorter
or longer, so that many hosts do not send at the same time. After a failure the agent tries again
sooner.

Related options:

* ``[compute]resource_provider_association_refresh`` (300 s): nova-compute's own interval.
""",
    ),
    cfg.StrOpt(
        'memory_backing_dir',
        mutable=True,
        help="""
Absolute path of the store, the directory below which libvirt puts the files with guests' memory.

If unset, the agent reads ``memory_backing_dir`` in ``/etc/libvirt/qemu.conf``, whose default is
``/var/lib/libvirt/qemu/ram``. Set it where the agent cannot read that file, for example because
libvirt runs in a container. It does not change where libvirt puts the files.
""",
    ),
    cfg.StrOpt(
        'hook_mode',
        default='enforce',
        choices=_HOOK_MODES,
        mutable=True,
        help="""
What the libvirt hook does with an instance that breaks a rule of this host.

The hook (``fbm-status hook install``) is the last check, and the only one that a forced live
migration meets. A change takes effect with the agent's next pass.
""",
    ),
)
