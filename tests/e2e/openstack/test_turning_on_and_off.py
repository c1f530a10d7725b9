# SPDX-License-Identifier: Apache-2.0
"""The page "Turning it on, turning it off", typed in as it stands there.

Its commands come in its order, and each must print what the page shows.
"""

import functools
import re
import shlex

import pytest

from tests.e2e.openstack.api import RefusedError
from tests.e2e.openstack.layers import assert_whole
from tests.services.documents import dialogues
from tests.services.expected import ENABLED_TRAIT
from tests.services.openstack import OpenStackCommand
from tests.services.process import wait_until
from tests.services.shares import SHARE

PAGE = 'doc/source/admin/turning-on-and-off.rst'
LAST_OF_TURNING_ON = 'openstack compute service set --enable'


def plain(text):
    """Return the text of a table without its lines, however it was wrapped."""
    return ' '.join(re.sub(r'\+[-+]+\+|[|]', ' ', text).split())


class Page:
    """The commands of the page that are left, in their order.

    :param node: the host
    """

    def __init__(self, cloud, node):
        self._dialogues = dialogues(PAGE)
        self._cloud = cloud
        self._node = node
        self._openstack = OpenStackCommand.with_account(cloud.control.admin)

    def skip_to_turning_off(self):
        while not self._dialogues.pop(0)[0].startswith(LAST_OF_TURNING_ON):
            pass

    @property
    def is_finished(self):
        return not self._dialogues

    def type(self, beginning, *servers):
        """Type in the next command, for each of these servers; it must print what stands there.

        Returns what it printed for the last one.
        """
        command, expected = self._dialogues.pop(0)
        assert command.startswith(beginning), command
        for server in servers or [None]:
            values = {
                '<host>': self._node.name,
                '<share>': SHARE,
                '<uuid>': self._cloud.provider(self._node.name),
            }
            if server:
                values['<server>'] = server.id

            def filled(text, values=values):
                return re.sub(r'<\w+>', lambda found: values[found[0]], text)

            printed = plain(self._run(shlex.split(filled(command))))
            pieces = [piece.strip() for piece in plain(filled(' '.join(expected))).split('…')]
            assert re.search('.*?'.join(map(re.escape, pieces)), printed), printed
        return printed

    def stop_and_start(self, server):
        self.type(STOP, server)
        server.wait_for('SHUTOFF')
        self.type(START, server)
        server.wait_for('ACTIVE')

    def _run(self, words):
        if words[0] == 'openstack':
            return self._openstack.text(*words[1:])
        if words == ['systemctl', 'restart', 'nova-compute']:
            # No systemd runs there.
            self._node.restart()
            return ''
        assert words[0] == 'fbm-status', words
        return self._node.status(*words[1:]).stdout


DOCTOR = 'fbm-status upgrade check'
PENDING = 'openstack server migration list'
CONFIRM = 'openstack server resize confirm'
CLOSE = 'openstack compute service set --disable'
OPEN = 'openstack compute service set --enable'
LIVE = 'openstack server migrate --live-migration'
RESTART = 'systemctl restart nova-compute'
STOP, START = 'openstack server stop', 'openstack server start'


def test_turning_on(cloud, ram, boot):
    """Guests with a page size leave first: running, stopped, resized. Others follow or stay."""
    ram.turn(0)
    cloud.passes_until_open(ram)
    cloud.flavor('small', **{'hw:mem_page_size': 'small'})
    running, stopped, resized = (boot('small', host='ram') for _ in range(3))
    leaving, staying = boot(host='ram'), boot(host='ram')
    stopped.act('os-stop')
    resized.act('migrate', {'host': 'plain'})
    stopped.wait_for('SHUTOFF')
    resized.wait_for('VERIFY_RESIZE')
    counted = leaving.guest().counter()

    page = Page(cloud, ram)
    assert '3 guests with a page size' in page.type(DOCTOR)
    page.type(PENDING, resized)
    page.type(CONFIRM, resized)
    wait_until(lambda: resized.status == 'ACTIVE', 'confirmed')
    page.type(CLOSE)
    page.type('openstack server migrate --wait', running, stopped)
    page.type(CONFIRM, running, stopped)
    wait_until(lambda: running.status == 'ACTIVE', 'confirmed')
    wait_until(lambda: stopped.status == 'SHUTOFF', 'confirmed')
    page.type(DOCTOR)
    ram.set_capacity(1024)
    page.type(RESTART)
    page.type(DOCTOR)
    page.type(LIVE, leaving)
    page.stop_and_start(staying)
    cloud.passes_until_open(ram)
    page.type(DOCTOR)
    page.type('openstack resource provider trait list')
    page.type(OPEN)

    stopped.act('os-start')
    for server in (running, stopped, resized):
        server.wait_for('ACTIVE')
        server.counting_guest()
        assert_whole(cloud, server, cloud.plain)
    assert_whole(cloud, leaving, cloud.plain, since=counted)
    staying.counting_guest()
    assert_whole(cloud, staying, ram)
    assert_whole(cloud, boot(host='ram'), ram)


def test_turning_off(cloud, ram, boot):
    """Resizes are confirmed and shares detached; what stays is started again."""
    cloud.flavor('backed', **{f'trait:{ENABLED_TRAIT}': 'required'})
    backed, sharing, resized, staying = (
        boot(flavor, host='ram') for flavor in ('backed', 'plain', 'plain', 'plain')
    )
    resized.act('migrate', {'host': 'disk'})
    sharing.act('os-stop')
    sharing.wait_for('SHUTOFF')
    command = OpenStackCommand.with_account(cloud.control.admin)
    shares = ('--os-compute-api-version', '2.97', 'server')
    command.text(*shares, 'add', 'share', sharing.id, SHARE)
    wait_until(
        lambda: 'inactive' in command.text(*shares, 'share', 'list', sharing.id), 'attached'
    )
    with pytest.raises(RefusedError, match='share'):
        sharing.act('shelve')
    resized.wait_for('VERIFY_RESIZE')

    page = Page(cloud, ram)
    page.skip_to_turning_off()
    page.type(DOCTOR)
    page.type(PENDING, resized)
    page.type(CONFIRM, resized)
    page.type('openstack server list', sharing)
    page.type('openstack --os-compute-api-version 2.97 server share list', sharing)
    page.type('openstack --os-compute-api-version 2.97 server remove share', sharing)
    wait_until(lambda: SHARE not in command.text(*shares, 'share', 'list', sharing.id), 'detached')
    page.type(START, sharing)
    sharing.wait_for('ACTIVE')
    page.type(CLOSE)
    page.type(LIVE, backed, sharing)
    ram.set_capacity(0)
    page.type(RESTART)
    page.type(DOCTOR)
    page.stop_and_start(staying)
    cloud.passes_until_open(ram)
    page.type(DOCTOR)
    page.type(OPEN)
    assert page.is_finished

    assert cloud.own_traits(ram) == set()
    for server in (backed, sharing, resized):
        server.counting_guest()
        assert_whole(cloud, server, cloud.disk)
    staying.counting_guest()
    assert_whole(cloud, staying, ram)


def test_guests_that_were_overlooked(cloud, ram, boot):
    """Nova does not start them again on the host; the ways out that the guide gives work."""
    ram.turn(0)
    cloud.passes_until_open(ram)
    cloud.flavor('small', **{'hw:mem_page_size': 'small'})
    running, stopped, tried = (boot('small', host='ram') for _ in range(3))
    for server in (stopped, tried):
        server.act('os-stop')
        server.wait_for('SHUTOFF')
    ram.turn(1024)
    named = 'these guests cannot be started here again, so neither stop nor start them: '
    assert f'{named}3 guests with a page size' in ram.status('upgrade', 'check', '--json').stdout

    tried.act('os-start')
    assert not tried.last('start').succeeded
    assert tried.settled()['status'] == 'SHUTOFF'
    # Nova removes the definition before it fails, and could not migrate that server now.
    assert f'{named}2 guests with a page size' in ram.status('upgrade', 'check', '--json').stdout

    move(running, stopped)
    ram.turn(0)
    tried.act('os-start')
    tried.wait_for('ACTIVE')
    move(tried)
    stopped.act('os-start')
    for server in (running, stopped, tried):
        server.wait_for('ACTIVE')
        server.counting_guest()
        assert_whole(cloud, server, cloud.plain)
    ram.turn(1024)
    cloud.passes_until_open(ram)
    assert named not in ram.status('upgrade', 'check', '--json').stdout


def move(*servers):
    """Migrate them cold, running or not, and confirm that."""
    for server in servers:
        before = server.status
        server.act('migrate')
        server.wait_for('VERIFY_RESIZE')
        server.act('confirmResize')
        wait_until(functools.partial(has_status, server, before), 'confirmed')


def has_status(server, status):
    return server.status == status
