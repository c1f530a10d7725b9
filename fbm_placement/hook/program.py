# SPDX-License-Identifier: Apache-2.0
"""Decide whether a guest may run on this host: the program of libvirt's hook.

The shell file next to its installed copy runs it with libvirt's arguments, NAME OPERATION
SUBOPERATION EXTRA, and the domain's XML on stdin. Exit code 0: the guest may run; 100: it may not;
any other: this program is broken. stderr has one line with the reason; stdout stays empty.

It runs as root, on the system's python3 (3.6 and later), while libvirt waits. So it is one file,
imports only what is cheap in the standard library, never calls libvirt, which would deadlock, and
every wait ends. The agent imports how mounts and the state file are read.
"""

import marshal
import os
import pyexpat
import select
import sys
import time

try:
    import _signal as signal  # signal without its enums, which cost half of Python's own start
except ImportError:
    import signal

STATE = '/run/fbm-agent/host.json'
STATE_VERSION = 1
STATE_MAX_BYTES = 4 << 20
NOT_OURS = ' is not what fbm-agent writes; restart fbm-agent'

NOVA = 'http://openstack.org/xmlns/libvirt/nova/'
XML_MAX_BYTES = 8 << 20

WHOLE_SECONDS = 8
STORE_SECONDS = 3
RESTORE_SECONDS = 60
"""A ``prepare`` that follows a ``restore`` within this time belongs to it."""

ROOM_TRIES, ROOM_SECONDS = 3, 0.5
MOUNTINFO = '/proc/self/mountinfo'

PASS, WARN, REFUSE = 'pass', 'warn', 'refuse'
MODES = {'enforce': REFUSE, 'warn': WARN}
"""What is done to a guest that doesn't fit, by hook_mode; with ``off`` none is checked."""
EXIT_REFUSE = 100


class StateError(Exception):
    """The state file cannot be used; the message is the reason."""


class UnreadableXMLError(Exception):
    """The domain's XML is not what libvirt writes."""


class XmlGuest:
    """What a domain's XML says of the guest, as far as it counts here.

    The methods are expat's handlers. As in libvirt, the first of several elements counts.
    """

    def __init__(self):
        self.nova = False
        self.uuid = ''
        self.source = None
        self.access = None
        self.hugepages = False
        self.cells = []  # (id, memAccess) of each NUMA cell
        self.memory = None  # in bytes; None: not readable
        self.sizes = []  # (number, unit) of each NUMA cell's memory
        self.unit = None  # of <memory>
        self.texts = {}
        self.reading = None  # the element whose text comes
        self.stack = []

    def start(self, name, attributes):
        stack = self.stack
        if not stack and name != 'domain':
            raise UnreadableXMLError('its root is not <domain>')
        stack.append(name)
        if len(stack) > 2 and stack[1] == 'metadata':
            self.nova = self.nova or name.startswith(NOVA)
        elif len(stack) < 5:
            # A name with a namespace has a space in it, so it makes none of these paths.
            self.take('/'.join(stack), attributes)

    def take(self, path, attributes):
        if path in ('domain/uuid', 'domain/memory') and path not in self.texts:
            self.texts[path] = ''
            self.reading = path
            self.unit = attributes.get('unit', self.unit)
        elif path == 'domain/memoryBacking/source':
            self.source = self.source or attributes.get('type')
        elif path == 'domain/memoryBacking/access':
            self.access = self.access or attributes.get('mode')
        elif path == 'domain/memoryBacking/hugepages':
            self.hugepages = True
        elif path == 'domain/cpu/numa/cell':
            number = attributes.get('id', str(len(self.cells)))
            self.cells.append((number, attributes.get('memAccess')))
            self.sizes.append((attributes.get('memory'), attributes.get('unit')))

    def end(self, _):
        self.stack.pop()
        self.reading = None

    def text(self, data):
        if self.reading and len(self.texts[self.reading]) < 256:
            self.texts[self.reading] += data[:256]

    def doctype(self, *_):
        # Without a DOCTYPE there are no entities, and so no bombs.
        raise UnreadableXMLError('it has a DOCTYPE, which libvirt never writes')


def decide(operation, guest, state, store=None, restoring=False):
    """Return PASS, WARN or REFUSE, and the reason: what is wrong, and how to fix it.

    ``state``: of the host, from read_state(). ``store``: from observe_store(), or None where the
    guest doesn't need it. ``restoring``: libvirt has announced that it restores this guest, and
    now prepares it like any other.
    """
    if not guest.nova:
        return PASS, ''
    draining = [uuid.lower() for uuid in state['may_restart']]
    reason = '' if guest.uuid in draining else wrong_kind(guest, state)
    if reason and (restoring or operation == 'restore'):
        return WARN, reason
    if not reason and store:
        reason = unfit_store(guest, state['store'], store)
    if not reason:
        return PASS, ''
    return MODES[state['hook_mode']], reason


def wrong_kind(guest, state):
    """Return why the guest's memory doesn't fit the host, or ''."""
    redefine = 'or hard reboot the instance, which redefines it'
    edited = 'if nova.conf has changed, restart fbm-agent first'
    file_backed = guest.source == 'file'
    if state['configured'] != 'enabled':
        if not file_backed:
            return ''
        return (
            'its memory is file-backed, and file-backed memory is disabled on this host; '
            f'choose a host where it is enabled, {redefine}; {edited}'
        )
    if guest.hugepages:
        return (
            'it asks for huge pages, which libvirt would use instead of the store; choose a host '
            'where file-backed memory is disabled ("openstack server migrate"), or resize it to a '
            'flavor without hw:mem_page_size'
        )
    if not file_backed:
        # One with cells may have a page size, with which Nova does not start it again.
        way_out = '' if guest.cells else f', {redefine}'
        return (
            'its memory is not file-backed, and file-backed memory is enabled on this host; '
            f'choose a host where it is disabled{way_out}; {edited}'
        )
    for cell, access in guest.cells or [(None, None)]:
        if (access or guest.access) != 'shared':
            what = 'its memory is' if cell is None else f'its NUMA cell {clean(cell, 10)} is'
            return (
                f'{what} file-backed but private, so what it writes would be in DRAM; '
                f"define it with <access mode='shared'/> and no memAccess, {redefine}"
            )
    return ''


def needs_store(guest, state):
    """Return whether the guest's memory will be in the store, so that this must be observed."""
    in_store = guest.nova and guest.source == 'file' and not guest.hugepages
    return bool(in_store and state['configured'] == 'enabled' and state['store'])


def unfit_store(guest, expected, store):
    """Return why the store can't take the guest, or ''; ``expected``: what the agent wrote."""
    mount_it = 'mount it, then restart libvirtd'
    seen, wanted = store.get('mount_point'), expected['mount_point'] or ''
    if 'error' in store:
        what = f'does not respond ({clean(store["error"])}); check its device'
    elif seen is None:
        what = f'does not exist; {mount_it}'
    elif len(wanted) > len(seen):
        # One of them is below the other, because the store is below both.
        seen, wanted = clean(seen), clean(wanted)
        what = f'is not mounted: it is on {seen}, expected on {wanted}; {mount_it}'
    elif seen == '/':
        what = f'is not mounted: it is on the root filesystem; {mount_it}'
    elif not store['prepared']:
        what = (
            'has no directory libvirt/qemu, so it was mounted after libvirtd had started; restart '
            'libvirtd'
        )
    elif guest.memory is None:
        return 'its <memory> is not readable, so its size is unknown; check its domain XML'
    elif lacks_room(guest, store):
        what = (
            f'has {store["free"] >> 20} MiB free, the guest needs {-(-guest.memory >> 20)} MiB; '
            'move guests away, or delete files there that belong to no running guest'
        )
    else:
        return ''
    return f'the store {clean(expected["path"])} {what}'


def lacks_room(guest, store):
    """Return whether less is free than the guest needs, as far as both are known."""
    free = store.get('free')
    return None not in (free, guest.memory) and free < guest.memory


def unchecked(operation, state, xml, exc):
    """Return the decision and the reason where an error ended the check."""
    enforced = (state['configured'], state['hook_mode']) == ('enabled', 'enforce')
    must_fit = enforced and operation != 'restore' and not is_foreign(xml)
    if isinstance(exc, UnreadableXMLError):
        what = 'its XML is not readable'
    else:
        what = f'the hook itself is broken: {type(exc).__name__}'
    reason = f'{what}: {clean(str(exc))}; run "fbm-status hook check"'
    return (REFUSE if must_fit else WARN), reason


def is_foreign(xml):
    """Return whether unreadable XML is whole all the same, and names Nova nowhere."""
    # Without NULs: it might be UTF-16.
    text = xml.replace(b'\0', b'')
    return text.rstrip().endswith(b'</domain>') and NOVA.encode('ascii') not in text


def read_state(path: str) -> dict:
    """Return the object in the state file, checked as far as the hook needs it; it may be stale.

    Raises FileNotFoundError: the agent doesn't run here, or was stopped; StateError.
    """
    try:
        with open(path, 'rb') as stream:
            state = parse_json(stream.read(STATE_MAX_BYTES).decode('utf-8'))
        version = state['version']
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise StateError(f'{path} is not readable: {exc.strerror}') from None
    except (ValueError, LookupError, TypeError, RecursionError):
        raise StateError(path + NOT_OURS) from None
    if type(version) is not int or version != STATE_VERSION:
        raise StateError(
            f'{path} has version {clean(str(version), 20)}, expected {STATE_VERSION}; restart '
            'fbm-agent, then run "fbm-status hook install"'
        )
    if not _is_complete(state):
        raise StateError(path + NOT_OURS)
    return state


class _Decoder:
    """What json's own scanner reads of the decoder that it works for."""

    strict = True
    parse_float, parse_int, parse_constant = float, int, float
    object_hook = object_pairs_hook = array_hook = None


def parse_json(text):
    """Return what json.loads() returns, or raise what it raises, mostly without importing it."""
    try:
        import _json  # noqa: PLC0415 - may be missing

        value, end = _json.make_scanner(_Decoder)(text, 0)
        if not text[end:].strip(' \t\n\r'):
            return value
    except Exception:  # noqa: BLE001, S110 - another Python's, or wrong JSON: json knows which
        pass
    import json  # noqa: PLC0415 - it costs half of Python's own start

    return json.loads(text)


def _is_complete(state):
    try:
        store = state['store']
        return (
            type(state['valid_until_uptime']) is int
            and state['hook_mode'] in ('enforce', 'warn', 'off')
            and state['configured'] in ('enabled', 'disabled')
            and isinstance(state['may_restart'], list)
            and all(isinstance(text, str) for text in [state['host'], *state['may_restart']])
            and (store is None or isinstance(store['path'], str))
            and (store is None or isinstance(store['mount_point'], (str, type(None))))
        )
    except (LookupError, TypeError):
        return False


def check_age(state: dict, path: str, now: float) -> None:
    """Raise StateError if the state is stale at the uptime ``now``."""
    if now > state['valid_until_uptime']:
        raise StateError(f'{path} is stale; check the fbm-agent service')


def uptime() -> float:
    """Return the seconds since the boot, suspended ones included."""
    return time.clock_gettime(7)  # CLOCK_BOOTTIME, for which Python 3.6 has no name


def parse_guest(xml):
    """Return the XmlGuest that the bytes ``xml`` describe, or raise UnreadableXMLError."""
    if len(xml) > XML_MAX_BYTES:
        raise UnreadableXMLError(f'it is longer than {XML_MAX_BYTES >> 20} MiB')
    guest = XmlGuest()
    parser = pyexpat.ParserCreate(namespace_separator=' ')
    parser.buffer_text = True
    parser.StartElementHandler = guest.start
    parser.EndElementHandler = guest.end
    parser.CharacterDataHandler = guest.text
    parser.StartDoctypeDeclHandler = guest.doctype
    try:
        parser.Parse(xml, True)
    except (pyexpat.ExpatError, LookupError, ValueError) as exc:
        # LookupError, ValueError: an encoding that Python doesn't know or that isn't one.
        raise UnreadableXMLError(str(exc)) from None
    # <memory> has the memory of devices (NVDIMM) in it; that of the cells has not.
    sizes = guest.sizes or [(guest.texts.get('domain/memory'), guest.unit)]
    parts = [to_bytes(number, unit) for number, unit in sizes]
    guest.memory = None if None in parts else sum(parts)
    guest.uuid = guest.texts.get('domain/uuid', '').strip().lower()
    return guest


def to_bytes(number, unit):
    """Return libvirt's scaled integer in bytes, or None; without a unit it is in KiB."""
    number = (number or '').strip()
    if not number or number.strip('0123456789') or len(number) > 20:
        return None
    unit = 'kib' if unit is None else unit.lower()
    if unit in ('b', 'byte', 'bytes'):
        return int(number)
    power = 'kmgtpe'.find(unit[:1]) + 1
    if not unit or not power or unit[1:] not in ('', 'b', 'ib'):
        return None
    return int(number) * (1000 if unit[1:] == 'b' else 1024) ** power


def observe_store(path):
    """Return the store's ``mount_point`` (None: no such path), ``prepared`` and ``free``.

    ``prepared``: libvirt's own directory is there; ``free``: in bytes, None without a limit. Or
    only an ``error``. A child process observes, because a dead disk may block it forever. It holds
    none of the hook's streams: libvirt waits until all of them are closed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            try:
                facts = _observe(path)
            except OSError as exc:
                facts = {'error': str(exc.strerror)}
            os.write(writing, marshal.dumps(facts))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], STORE_SECONDS)[0]:
            os.kill(child, signal.SIGKILL)  # and no wait: it may be beyond signals, too
            return {'error': f'no answer in {STORE_SECONDS} s'}
        answer = os.read(reading, 65536)
    finally:
        os.close(reading)
    return marshal.loads(answer) if answer else {'error': 'the check failed'}


def _observe(path):
    try:
        os.stat(path)
    except FileNotFoundError:
        return {'mount_point': None}
    # The kernel escapes spaces, tabs and \n in a name, but not \r.
    with open(MOUNTINFO, encoding='utf-8', errors='surrogateescape', newline='\n') as lines:
        mount = mount_of(os.path.realpath(path), parse_mountinfo(lines))
    room = os.statvfs(path)
    return {
        'mount_point': mount[0] if mount else None,
        'prepared': os.path.isdir(os.path.join(path, 'libvirt', 'qemu')),
        # A tmpfs without a limit has no blocks.
        'free': room.f_bavail * room.f_frsize if room.f_blocks else None,
    }


def parse_mountinfo(lines) -> list:
    """Return the mounts in the lines of proc_pid_mountinfo(5), in their order.

    Each is a tuple: mount point, filesystem type, source, ``major:minor``, root, the filesystem's
    own options, id, id of the mount below. A line that is not as documented is left out.
    """
    mounts = []
    for line in lines:
        left, _, right = line.partition(' - ')
        fields, filesystem = left.split(' '), right.rstrip('\n').split(' ')
        if len(fields) > 4 and len(filesystem) > 2:
            device, root, point = fields[2], unescaped(fields[3]), unescaped(fields[4])
            kind, source, options = filesystem[0], unescaped(filesystem[1]), filesystem[2]
            options = frozenset(options.split(','))
            mounts.append((point, kind, source, device, root, options, fields[0], fields[1]))
    return mounts


def mount_of(real_path: str, mounts: list):
    """Return the mount of a path without links, found as the kernel does: from the root on.

    A mount below a directory that another mount covers is not seen. A directory that is bound onto
    itself is no mount of its own: so systemd makes parts of a unit's view read-only. A subvolume
    of btrfs that is mounted where it lies differs from that in its id.
    """
    left = [mount for mount in mounts if is_under(real_path, mount[0])]
    ids = {mount[6] for mount in mounts}
    stack = []
    while True:
        above = [
            mount
            for mount in left
            if (mount[7] == stack[-1][6] if stack else mount[7] not in ids or mount[7] == mount[6])
        ]
        if not above:
            break
        # Of several on one mount point the last covers the others.
        stack.append(min(reversed(above), key=lambda mount: len(mount[0])))
        left = [mount for mount in left if mount not in above]
    while len(stack) > 1 and _is_bound_onto_itself(stack[-1], stack[-2]):
        stack.pop()
    return stack[-1] if stack else None


def _is_bound_onto_itself(mount, below):
    there = os.path.normpath(os.path.join(below[4], os.path.relpath(mount[0], below[0])))
    subvolumes = [{one for one in m[5] if one.startswith('subvolid=')} for m in (mount, below)]
    return mount[3:5] == (below[3], there) and subvolumes[0] == subvolumes[1]


def is_under(path: str, mount_point: str) -> bool:
    """Return whether the path is the mount point or lies below it."""
    return path == mount_point or path.startswith(mount_point.rstrip('/') + '/')


def unescaped(field: str) -> str:
    """Return a field of mountinfo or fstab, in which some characters are written in octal."""
    for octal, one in (('040', ' '), ('011', '\t'), ('012', '\n'), ('043', '#'), ('134', '\\')):
        field = field.replace('\\' + octal, one)
    return field


def restore_note(guest, state_path):
    """Return the path of the note that ``restore`` leaves for ``prepare``, or ''.

    libvirt calls both for a guest that it restores; without a note, ``prepare`` would refuse.
    """
    if len(guest.uuid) != 36 or guest.uuid.strip('0123456789abcdef-'):
        return ''
    return os.path.join(os.path.dirname(state_path), 'restoring-' + guest.uuid)


def leave_note(path):
    if os.path.lexists(path):
        os.unlink(path)
    # The directory is the agent's, which need not be root: no link of its may lead elsewhere.
    note = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(note, b'%d' % uptime())
    os.close(note)


def take_note(path):
    """Remove the note; return whether there was one, not too old."""
    try:
        with open(path) as stream:
            noted = int(stream.read(32))
        os.unlink(path)
    except (OSError, ValueError):
        return False
    return 0 <= uptime() - noted <= RESTORE_SECONDS


ARRIVALS = {
    'prepare': ('start', 'starts'),
    'migrate': ('migrate', 'migrates'),
    'restore': ('be restored', 'is restored'),
}
"""The operations in which a guest arrives; all others pass."""


def clean(text, longest=200):
    """Return ``text`` so that it can do no harm in a log or a terminal."""
    text = ''.join(one if ' ' <= one <= '~' else '?' for one in text[: longest + 1])
    return text if len(text) <= longest else text[:longest] + '...'


CHECK_NAME = 'fbm-hook-check'
"""Of the guest with which "fbm-status hook check" runs the hook: none whose refusal is logged."""


def report(decision, operation, host, who, message):
    """Write the hook's one line to stderr and to the system's log.

    libvirt drops the stderr of a hook that lets a guest pass, and where the store hangs, libvirt's
    clean-up after a refusal hangs too. That of a refused boot is the server's fault in Nova: a
    tenant reads it, and must not learn names of hosts.
    """
    start, starts = ARRIVALS[operation]
    passes = f'{starts} here unchecked' if decision == PASS else f'{starts} here anyway'
    what = f'may not {start} here' if decision == REFUSE else passes
    warning = '' if decision == REFUSE else 'warning: '
    text = f': guest {who} {what}: {message}'
    line = f'{warning}fbm hook on {host}{text}'
    shown = f'fbm hook{text}' if decision == REFUSE and operation == 'prepare' else line
    try:
        os.write(2, shown.encode('ascii', 'replace') + b'\n')
    except OSError:
        pass
    if who.startswith(CHECK_NAME):
        return
    import syslog  # noqa: PLC0415 - it costs time, and mostly there is nothing to report

    syslog.openlog('fbm-hook', 0, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, line)


def check(operation, guest, state, state_path):
    """Observe what the decision needs; return the decision and the reason."""
    store = None
    if operation != 'restore' and needs_store(guest, state):
        path = state['store']['path']
        store = observe_store(path)
        for _ in range(ROOM_TRIES):
            # A guest that restarts: XFS frees its old file a moment after that is gone.
            if lacks_room(guest, store):
                time.sleep(ROOM_SECONDS)
                store = observe_store(path)
    note = restore_note(guest, state_path)
    restoring = guest.nova and operation == 'prepare' and take_note(note)
    decision, reason = decide(operation, guest, state, store, restoring)
    if operation == 'restore' and reason and note:
        try:
            leave_note(note)
        except OSError as exc:
            reason += f' (libvirt prepares it next, and that will be refused: {exc.strerror})'
    return decision, reason


def main(argv, state_path=STATE):
    """Return the exit code for libvirt's four arguments ``argv``."""
    name, operation = argv[:2]
    who = clean(name, 80)
    if operation not in ARRIVALS:
        return 0
    # The default action ends the process: the shell file then decides.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WHOLE_SECONDS)
    try:
        state = read_state(state_path)
        if state['hook_mode'] == 'off':
            return 0
        check_age(state, state_path, uptime())
    except FileNotFoundError:
        return 0
    except StateError as exc:
        report(PASS, operation, os.uname()[1], who, str(exc))
        return 0
    xml = b''
    try:
        xml = sys.stdin.buffer.read(XML_MAX_BYTES + 1)
        guest = parse_guest(xml)
        if guest.uuid:
            who += f' ({clean(guest.uuid, 36)})'
        decision, reason = check(operation, guest, state, state_path)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the host's state decides
        decision, reason = unchecked(operation, state, xml, exc)
    if reason:
        report(decision, operation, clean(state['host']), who, reason)
    return EXIT_REFUSE if decision == REFUSE else 0


if __name__ == '__main__':
    # Python's own end costs a millisecond, and nothing is open.
    os._exit(main(sys.argv[1:]))
