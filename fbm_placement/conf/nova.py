# SPDX-License-Identifier: Apache-2.0
"""The few options of Nova that the agent needs, as nova/conf/ defines them.

Nova isn't imported: it may be of any release, or not installed here. Its other options are
ignored, but those that a registered option interpolates must be registered, too.
"""

import importlib.util
import os
import socket

from keystoneauth1 import loading
from oslo_config import cfg
from oslo_utils import netutils

REQUEST_TIMEOUT_SECONDS = 30
"""The default of keystoneauth is to wait indefinitely."""


def _pybasedir() -> str:
    # Nova's default is where Nova is installed; find_spec does not import it.
    spec = importlib.util.find_spec('nova')
    if spec is None or spec.origin is None:
        return '/usr/lib/python3/dist-packages'  # of a distribution's packages
    return os.path.dirname(os.path.dirname(spec.origin))


def _default_opts() -> list[cfg.Opt]:
    # pybasedir, state_path, my_ip: nova/conf/paths.py and netconf.py. Others interpolate them.
    return [
        cfg.StrOpt('pybasedir', default=_pybasedir()),
        cfg.StrOpt('state_path', default='$pybasedir'),
        cfg.StrOpt('my_ip', default=netutils.get_my_ipv4()),
        cfg.StrOpt('host', default=socket.gethostname()),
        cfg.StrOpt('instance_name_template', default='instance-%08x'),
        # mutable: else oslo.config warns at a reload that it ignores the edit of these.
        cfg.FloatOpt('ram_allocation_ratio', min=0.0, mutable=True),
        # Without Nova's min=0: rules/config.py refuses a negative value with a better message.
        cfg.IntOpt('reserved_host_memory_mb', default=512, mutable=True),
    ]


_LIBVIRT_OPTS = (
    cfg.IntOpt('file_backed_memory', default=0, mutable=True),
    cfg.StrOpt('virt_type', default='kvm', mutable=True),
    cfg.StrOpt('connection_uri', default=''),
    cfg.BoolOpt('live_migration_permit_post_copy', default=False),
)

_COMPUTE_OPTS = (cfg.StrOpt('provider_config_location', default='/etc/nova/provider_config/'),)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register what can be registered before the files are read."""
    conf.register_opts(_default_opts())
    conf.register_opts(_LIBVIRT_OPTS, group='libvirt')
    conf.register_opts(_COMPUTE_OPTS, group='compute')
    session_opts = loading.get_session_conf_options()
    cfg.set_defaults(session_opts, timeout=REQUEST_TIMEOUT_SECONDS)
    conf.register_opts(session_opts, group='placement')
    adapter_opts = [
        # The code knows which version it needs; Nova ignores these too.
        cfg.Opt(opt.name, type=lambda _: None) if 'version' in opt.dest else opt  # type: ignore[arg-type]
        for opt in loading.get_adapter_conf_options(include_deprecated=False)
    ]
    # Without Nova's defaults (nova/conf/placement.py) the catalogue has no such service.
    cfg.set_defaults(
        adapter_opts, service_type='placement', valid_interfaces=['internal', 'public']
    )
    conf.register_opts(adapter_opts, group='placement')
