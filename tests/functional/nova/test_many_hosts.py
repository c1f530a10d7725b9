# SPDX-License-Identifier: Apache-2.0
"""More hosts than Placement may return: why the pre-filter exists."""

from tests.functional.nova import cloud

ENABLED_HOSTS = [f'tmpfs-{number}' for number in range(1, 20)]


class ManyHostsTest(cloud.CloudTestCase):
    """``[scheduler]max_placement_results`` cuts the list before any filter sees it."""

    def test_one_fitting_host_of_twenty(self):
        """The pre-filter makes Placement look for it."""
        server = self.boot_where_one_host_of_twenty_fits()
        self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
        self.assertEqual('plain', self.host_of(server))

    def boot_where_one_host_of_twenty_fits(self):
        """Placement returns five hosts, the oldest; a page size means nothing to it."""
        self.flags(max_placement_results=5, group='scheduler')
        self.start(*ENABLED_HOSTS, 'plain')
        return self.guest('small pages')


class ManyHostsByTheFilterAloneTest(ManyHostsTest):
    PREFILTER = False

    def test_one_fitting_host_of_twenty(self):
        """The filter finds none among the five that it gets, though there is one."""
        self.flags(max_placement_results=5, group='scheduler')
        self.start(*ENABLED_HOSTS)
        # Which five Placement returns is its own business, but it stays with the same five.
        query = 'limit=5&resources=VCPU:2,MEMORY_MB:512,DISK_GB:1'
        answer = self.placement.get(f'/allocation_candidates?{query}', version='1.36').body
        beyond = next(
            name
            for name in ENABLED_HOSTS
            if self.compute_rp_uuids[name] not in answer['provider_summaries']
        )
        self.memory_of[beyond] = 0
        self.agent_pass(beyond)
        server = self.guest('small pages')
        self.assertEqual('ERROR', server['status'], self.host_of(server))
        self.assertIn('No valid host was found', self.fault_of(server))
        self.assertIn('file-backed memory rejected 5 hosts', self.stdlog.logger.output)
