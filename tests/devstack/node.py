# SPDX-License-Identifier: Apache-2.0
"""A devstack node below a directory: stubs of devstack, the real plugin, real files."""

import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass, field

from oslo_config import cfg

from fbm_placement.conf import file_backed_memory, nova

HERE = pathlib.Path(__file__).parent
PLUGIN = HERE.parents[1] / 'devstack'
NODE = HERE / 'node.sh'

# Where devstack installs (GLOBAL_VENV).
BIN = 'opt/stack/data/venv/bin'

QEMU_CONF = '# Master configuration file\nuser = "libvirt-qemu"\n'

# What the stubs know of the machine.
STATE = ('mounts', 'enabled', 'running')

# The real one, but for the directory of hooks and for the doctor, which would check this machine.
FBM_STATUS = """#!/bin/sh
case "$*" in
    *"upgrade check") echo "doctor $*" >> "$ROOT/calls"; exit ${DOCTOR:-0} ;;
    *) exec "$PYTHON" -c 'from fbm_placement.cmd.status import main; raise SystemExit(main())' \\
        "$@" --hooks-dir "$ROOT/etc/libvirt/hooks" ;;
esac
"""
# A stub: there is no Placement to talk to. An agent that runs would put the traits back.
FBM_AGENT = """#!/bin/sh
echo "fbm-agent $*" | sed -e "s|$ROOT||g" >> "$ROOT/calls"
case "$*" in *--dry-run) exit ${DRY_RUN:-0} ;; esac
! grep -qs fbm-agent "$ROOT/running" || exit 3
exit ${WITHDRAW:-0}
"""


@dataclass
class Node:
    """One node, its ``local.conf`` and what became of its files."""

    root: pathlib.Path
    services: str
    variables: dict[str, str] = field(default_factory=dict)
    plugin: pathlib.Path | None = PLUGIN

    def __post_init__(self):
        for name in ('etc/libvirt', 'srv', BIN):
            (self.root / name).mkdir(parents=True)
        self.qemu_conf.write_text(QEMU_CONF)
        for name, text in (('fbm-status', FBM_STATUS), ('fbm-agent', FBM_AGENT)):
            (self.root / BIN / name).write_text(text)
            (self.root / BIN / name).chmod(0o755)

    def run(self, *phases, check=True, **more):
        """Play stack, unstack or clean; variables are those of local.conf."""
        ended = subprocess.run(
            ['bash', NODE, *phases],
            env={
                'PATH': os.environ['PATH'],
                'ROOT': str(self.root),
                'BIN': f'{self.root}/{BIN}',
                'PYTHON': sys.executable,
                'INI': str(HERE / 'ini.py'),
                'PLUGIN': str(self.plugin or ''),
                'ENABLED_SERVICES': self.services,
                **self.variables,
                **more,
            },
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not (check and ended.returncode), ended.stderr
        return ended

    def state(self, name):
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def calls(self):
        return self.state('calls')

    @property
    def qemu_conf(self):
        return self.root / 'etc/libvirt/qemu.conf'

    @property
    def nova_conf(self):
        return self.root / 'etc/nova/nova.conf'

    @property
    def nova_cpu_conf(self):
        return self.root / 'etc/nova/nova-cpu.conf'

    def tree(self):
        """Return every file and directory of the node: mode and content."""
        found = {}
        for path in sorted(self.root.rglob('*')):
            name = str(path.relative_to(self.root))
            if name == 'calls' or name.startswith(BIN):
                continue
            if name in STATE and not path.read_text():
                continue
            content = None
            if path.is_file():
                # A loop store's file is as long as the store, and has no content worth reading.
                large = path.stat().st_size > 1 << 20
                content = path.stat().st_size if large else path.read_bytes()
            if isinstance(content, bytes):
                content = content.replace(str(self.root).encode(), b'')
            found[name] = (path.stat().st_mode, content)
        return found


ALL_IN_ONE = 'n-api,n-sch,n-cond,n-cpu,placement-api'
COMPUTE = 'n-cpu,placement-client'
NODES = {
    'all-in-one': (ALL_IN_ONE, {}),
    'compute, tmpfs': (COMPUTE, {'FBM_STORE_KIND': 'tmpfs', 'FBM_STORE_SIZE': '2048'}),
    'compute, plain': (COMPUTE, {'FBM_ENABLED': 'False'}),
    'controller': ('n-api,n-sch,n-cond,placement-api', {}),
}

AGENT = 'devstack@fbm-agent.service'
OURS = 'fbm_filters.FileBackedMemoryFilter'
ALL = 'nova.scheduler.filters.all_filters'


def read(path):
    """Read a nova.conf as Nova and the agent do, with oslo.config."""
    conf = cfg.ConfigOpts()
    nova.register_opts(conf)
    conf.register_opts(file_backed_memory.AGENT_OPTS, group=file_backed_memory.GROUP)
    conf.register_opts(
        [
            cfg.BoolOpt('prefilter', default=True),
            cfg.StrOpt('default_policy'),
        ],
        group='file_backed_memory',
    )
    conf.register_opts(
        [cfg.MultiStrOpt('available_filters', default=[ALL]), cfg.ListOpt('enabled_filters')],
        group='filter_scheduler',
    )
    conf(args=[], default_config_files=[str(path)])
    return conf


def where(calls, begin):
    """Return the place of the first call that begins so; there must be one."""
    places = [place for place, call in enumerate(calls) if call.startswith(begin)]
    assert places, f'nothing called {begin}: {calls}'
    return places[0]
