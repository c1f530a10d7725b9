# SPDX-License-Identifier: Apache-2.0
"""`fbm-status upgrade check` on a real host."""

import json
import re

from fbm_placement.host import numa
from tests.e2e.cloud import ComputeHost
from tests.e2e.host import HOOK
from tests.e2e.lab.domain import FILE_BACKED, Domain, MemoryBacking
from tests.e2e.lab.store import Tmpfs

SUCCESS, FAILURE = 0, 2


def examine(compute):
    done = compute.status('upgrade', 'check', '--json')
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)['checks']
    return done.returncode, {check['check']: check for check in found}


def define(host, domain):
    """Make it known to libvirt for good, as Nova does."""
    host.virsh('define', '/dev/stdin', stdin=domain.xml())


def test_from_installed_to_broken(boot, make_host, placement):
    """All checks succeed where all is installed; what breaks then is a failure with its fix."""
    host = make_host('patient', store=Tmpfs(128))
    own = ComputeHost(host, placement.url, capacity=64)
    with own.agent():
        status, checks = examine(own)
        assert status == FAILURE
        assert checks['libvirt hook']['result'] == FAILURE
        done = own.status('hook', 'install')
        assert done.returncode == 0
        assert 'systemctl reload libvirtd' in done.stdout
        host.stop_libvirtd()
        host.start_libvirtd()
        guest = Domain(backing=FILE_BACKED)
        boot(host, guest)
        define(host, guest)

        status, checks = examine(own)
        assert {name: one['result'] for name, one in checks.items()} == dict.fromkeys(
            checks, SUCCESS
        )
        assert status == SUCCESS

        host.unmount()
        host.path(f'{HOOK}.py').unlink()
        in_huge_pages = Domain(backing=MemoryBacking(huge_pages=2048))
        define(host, in_huge_pages)
        status, checks = examine(own)
        assert status == FAILURE
        broken = {name: one for name, one in checks.items() if one['result'] == FAILURE}
        assert set(broken) == {'Store', 'Guest restarts', 'libvirt hook'}
        named = f'1 guest with a page size (hw:mem_page_size): {in_huge_pages.name} '
        assert named in broken['Guest restarts']['details']
        assert 'fbm-status hook install' in broken['libvirt hook']['details']


def test_dram_is_counted_as_libvirt_does(make_host):
    """nova-compute reports this number while file-backed memory is off."""
    seen = make_host('counted').virsh('nodeinfo').stdout
    (kib,) = re.findall(r'^Memory size: +(\d+) KiB$', seen, re.MULTILINE)
    assert numa.dram_mib() == int(kib) // 1024
