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
    """With ``prefilter = false``."""

    PREFILTER = False

    def test_one_fitting_host_of_twenty(self):
        """The filter finds none among the five that it gets, though there is one."""
        server = self.boot_where_one_host_of_twenty_fits()
        self.assertEqual('ERROR', server['status'])
        self.assertIn('No valid host was found', self.fault_of(server))
        self.assertIn('file-backed memory rejected 5 hosts', self.stdlog.logger.output)
