# SPDX-License-Identifier: Apache-2.0
"""Decide whether a guest may run on this host; libvirt's hook beside this file runs it.

Arguments: NAME OPERATION SUBOPERATION EXTRA, and the domain's XML on stdin, as libvirt gives them
to its hooks. Exit code 0: it may; 100: it may not; any other: this file is broken. One line on
stderr says why not, stdout stays empty.

It runs as root in libvirtd's place, with whatever python3 the system has (3.6 and later), while
libvirt waits. So: one file; the standard library only, and of that only what is cheap to import;
nothing that asks libvirt, which would deadlock; no wait without an end.
"""

import json
import os
import pyexpat
import select
import signal
import sys
import time

STATE = '/run/fbm-agent/host.json'
STATE_VERSION = 1
STATE_MAX_BYTES = 4 << 20

NOVA = 'http://openstack.org/xmlns/libvirt/nova/'
XML_MAX_BYTES = 8 << 20
XML_MAX_DEPTH = 4096
"""A disk's backing chain alone nests up to 200 deep."""

WHOLE_SECONDS = 8
STORE_SECONDS = 3
RESTORE_SECONDS = 60
"""How soon libvirt must prepare a guest that it restores, for the hook to take it for the same."""

ROOM_TRIES, ROOM_SECONDS = 3, 0.5
MOUNTINFO = '/proc/self/mountinfo'

PASS, WARN, REFUSE = 'pass', 'warn', 'refuse'

EXIT_PASS = 0
EXIT_REFUSE = 100


class NoOpinionError(Exception):
    """The state file says nothing that can be used; the message says why, or is empty."""


class UnreadableXMLError(Exception):
    """The domain's XML is not what libvirt writes."""


class Host:
    """What the agent says of this host."""

    def __init__(self, name, hook_mode, configured, may_restart=(), store=None):
        self.name = name
        self.hook_mode = hook_mode
        self.enabled = configured == 'enabled'
        self.may_restart = frozenset(uuid.lower() for uuid in may_restart)
        self.store_path = None if store is None else store['path']
        self.store_mount_point = None if store is None else store['mount_point']


class Guest:
    """What a domain's XML says of the guest, as far as it counts here."""

    def __init__(self):
        self.nova = False
        self.uuid = ''
        self.source = None
        self.access = None
        self.hugepages = False
        self.cells = []  # (id, memAccess) of each NUMA cell
        self.memory = None  # in bytes; None: not readable

    @property
    def file_backed(self):
        return self.source == 'file'


class Store:
    """What the look at the store found; an ``error`` instead of all else."""

    def __init__(self, mount_point=None, prepared=False, free=None, error=None):
        self.mount_point = mount_point  # None: the path doesn't exist
        self.prepared = prepared  # whether libvirt's own directory is there
        self.free = free  # in bytes; None: no limit
        self.error = error


# What is decided


def decide(operation, guest, host, store=None, restoring=False):
    """Return PASS, WARN or REFUSE, and the words for it: what is wrong, and what to do.

    ``store`` is a Store, or None where none was looked at. ``restoring``: libvirt has announced
    the restore of this guest, which then is prepared as every guest is.
    """
    if not guest.nova or host.hook_mode == 'off':
        return PASS, ''
    words = '' if guest.uuid in host.may_restart else wrong_kind(guest, host)
    if words and (restoring or operation == 'restore'):
        return WARN, words
    if not words and store is not None:
        words = unfit_store(guest, host, store)
    if not words:
        return PASS, ''
    return (WARN if host.hook_mode == 'warn' else REFUSE), words


def wrong_kind(guest, host):
    """Say what of the guest's memory doesn't fit the host; return '' where all does."""
    redefine = 'or hard reboot the instance, which redefines it'
    edited = 'if nova.conf says otherwise by now, restart fbm-agent first'
    if not host.enabled:
        if not guest.file_backed:
            return ''
        return (
            'its memory is file-backed, and file-backed memory is disabled on this host; '
            f'choose a host where it is enabled, {redefine}; {edited}'
        )
    if not guest.file_backed:
        return (
            'its memory is not file-backed, and file-backed memory is enabled on this host; '
            f'choose a host where it is disabled, {redefine}; {edited}'
        )
    if guest.hugepages:
        return (
            'it asks for huge pages, which libvirt would use instead of the store; take '
            'hw:mem_page_size off its flavor and image, or choose a host where file-backed '
            'memory is disabled'
        )
    for cell, access in guest.cells or [(None, None)]:
        if (access or guest.access) != 'shared':
            what = 'its memory is' if cell is None else f'its NUMA cell {clean(cell, 10)} is'
            return (
                f'{what} file-backed but private, so what it writes would be in DRAM; '
                f"define it with <access mode='shared'/> and no memAccess, {redefine}"
            )
    return ''


def needs_store(operation, guest, host):
    """Tell whether the guest's memory is to lie in the store, so that it must be looked at."""
    return bool(
        guest.nova
        and host.enabled
        and operation != 'restore'
        and guest.file_backed
        and not guest.hugepages
        and host.store_path
    )


def unfit_store(guest, host, store):
    """Say why the store can't take the guest; return '' where it can."""
    path = clean(host.store_path)
    if store.error:
        return (
            f'the store {path} does not answer ({clean(store.error)}); '
            'look at the disk or server below it'
        )
    unmounted = not_mounted(host, store)
    if unmounted:
        return f'the store {path} {unmounted}; mount it, then restart libvirtd'
    if not store.prepared:
        return (
            f'the store {path} has no directory libvirt/qemu, so it was mounted after libvirtd '
            'had started; restart libvirtd'
        )
    if guest.memory is None:
        return 'its <memory> is not readable, so its size is unknown; look at its domain XML'
    if lacks_room(guest, store):
        return (
            f'the store {path} has {store.free >> 20} MiB free, the guest needs '
            f'{-(-guest.memory >> 20)} MiB; move guests away, or delete files there that belong '
            'to no running guest'
        )
    return ''


def lacks_room(guest, store):
    """Tell whether less is free than the guest needs, as far as both are known."""
    return None not in (store.free, guest.memory) and store.free < guest.memory


def not_mounted(host, store):
    """Say what the store's path is where the store is not mounted there; return '' where it is."""
    if store.mount_point is None:
        return 'does not exist'
    if store.mount_point == '/':
        return 'is not mounted: it is on the root filesystem'
    if host.store_mount_point not in (None, store.mount_point):
        return (
            f'is not mounted: it is on {clean(store.mount_point)}, '
            f'expected on {clean(host.store_mount_point)}'
        )
    return ''


# What the agent says


def read_host(path):
    """Return the Host that the state file describes; raise NoOpinionError where it is no use."""
    try:
        with open(path, 'rb') as stream:
            text = stream.read(STATE_MAX_BYTES)
    except FileNotFoundError:
        raise NoOpinionError('') from None  # the agent isn't used here, or was ended on purpose
    except OSError as exc:
        raise NoOpinionError(f'{path} is not readable: {exc.strerror}') from None
    try:
        state = json.loads(text.decode('utf-8'))
        version = state['version']
    except (ValueError, LookupError, TypeError, RecursionError):
        raise NoOpinionError(f'{path} is not readable: not what fbm-agent writes') from None
    if type(version) is not int or version != STATE_VERSION:
        raise NoOpinionError(
            f'{path} has version {clean(str(version), 20)}, this hook knows {STATE_VERSION}; '
            'run "fbm-status hook install"'
        )
    try:
        host = _known_host(state)
    except (LookupError, TypeError, AttributeError):
        host = None
    if host is None:
        raise NoOpinionError(f'{path} is not readable: not what fbm-agent writes') from None
    if host.hook_mode != 'off' and uptime() > state['valid_until_uptime']:
        raise NoOpinionError(f'{path} is stale; look at the fbm-agent service') from None
    return host


def _known_host(state):
    """Return the Host, or None where a value is none that this version knows."""
    host = Host(
        clean(state['host']),
        state['hook_mode'],
        state['configured'],
        state['may_restart'],
        state['store'],
    )
    known = (
        type(state['valid_until_uptime']) is int
        and host.hook_mode in ('enforce', 'warn', 'off')
        and state['configured'] in ('enabled', 'disabled')
        and isinstance(host.store_path, (str, type(None)))
        and isinstance(host.store_mount_point, (str, type(None)))
    )
    return host if known else None


def uptime():
    """Return whole seconds since the boot, suspended ones included."""
    with open('/proc/uptime') as stream:
        return int(stream.read(64).split('.')[0])


# What libvirt says


def parse_guest(xml):
    """Return the Guest that the bytes ``xml`` describe, or raise UnreadableXMLError."""
    if len(xml) > XML_MAX_BYTES:
        raise UnreadableXMLError(f'it is longer than {XML_MAX_BYTES >> 20} MiB')
    reader = _Reader()
    parser = pyexpat.ParserCreate(namespace_separator=' ')
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    # Without a DOCTYPE there are no entities, and so no bombs.
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(xml, True)
    except UnreadableXMLError:
        raise
    except (pyexpat.ExpatError, LookupError, ValueError) as exc:
        # LookupError, ValueError: an encoding that Python doesn't know or that isn't one.
        raise UnreadableXMLError(str(exc)) from None
    # Without the cells' it is the whole; with them that has the memory of devices (NVDIMM) in it.
    sizes = reader.cells_memory or [(reader.words.get('domain/memory'), reader.memory_unit)]
    parts = [to_bytes(number, unit) for number, unit in sizes]
    reader.guest.memory = None if None in parts else sum(parts)
    reader.guest.uuid = reader.words.get('domain/uuid', '').strip().lower()
    return reader.guest


def _refuse_doctype(*_):
    raise UnreadableXMLError('it has a DOCTYPE, which libvirt never writes')


class _Reader:
    """Collects what counts. As in libvirt, the first of several counts."""

    TEXTS = frozenset(['domain/uuid', 'domain/memory'])

    def __init__(self):
        self.guest = Guest()
        self.words = {}
        self.memory_unit = None
        self.cells_memory = []
        self.stack = []
        self.reading = None

    def start(self, name, attributes):
        stack, guest = self.stack, self.guest
        if not stack and name != 'domain':
            raise UnreadableXMLError('its root is not <domain>')
        stack.append(name)
        depth = len(stack)
        if depth > XML_MAX_DEPTH:
            raise UnreadableXMLError(f'it is nested deeper than {XML_MAX_DEPTH}')
        if depth > 2 and stack[1] == 'metadata':
            guest.nova = guest.nova or name.startswith(NOVA)
        elif depth < 5:
            # A name with a namespace has a space in it, so it makes none of these paths.
            self.take('/'.join(stack), attributes)

    def take(self, path, attributes):
        guest = self.guest
        if path in self.TEXTS and path not in self.words:
            self.words[path] = ''
            self.reading = path
            self.memory_unit = attributes.get('unit', self.memory_unit)
        elif path == 'domain/memoryBacking/source':
            guest.source = guest.source or attributes.get('type')
        elif path == 'domain/memoryBacking/access':
            guest.access = guest.access or attributes.get('mode')
        elif path == 'domain/memoryBacking/hugepages':
            guest.hugepages = True
        elif path == 'domain/cpu/numa/cell':
            number = attributes.get('id', str(len(guest.cells)))
            guest.cells.append((number, attributes.get('memAccess')))
            self.cells_memory.append((attributes.get('memory'), attributes.get('unit')))

    def end(self, _):
        self.stack.pop()
        self.reading = None

    def text(self, data):
        if self.reading and len(self.words[self.reading]) < 256:
            self.words[self.reading] += data[:256]


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


# What the store says


def look_at_store(path, expected):
    """Return the Store as a child process finds it, for a dead disk or server may hang for ever.

    The child holds none of the hook's streams: libvirt waits until all of them are closed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            try:
                facts = _look(path, expected)
            except OSError as exc:
                facts = {'error': str(exc.strerror)}
            os.write(writing, json.dumps(facts).encode('ascii'))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], STORE_SECONDS)[0]:
            os.kill(child, signal.SIGKILL)  # and no wait: it may be beyond signals, too
            return Store(error=f'looked for {STORE_SECONDS} s')
        answer = os.read(reading, 65536)
    finally:
        os.close(reading)
    if not answer:
        return Store(error='the look at it failed')
    return Store(**json.loads(answer.decode('ascii')))


def _look(path, expected):
    try:
        os.stat(path)
    except FileNotFoundError:
        return {}
    mount_point = mount_point_of(os.path.realpath(path))
    same = expected and os.path.realpath(expected) == mount_point
    room = os.statvfs(path)
    return {
        # The agent's name for it, where it is the same.
        'mount_point': expected if same else mount_point,
        'prepared': os.path.isdir(os.path.join(path, 'libvirt', 'qemu')),
        # A tmpfs without a limit has no blocks.
        'free': room.f_bavail * room.f_frsize if room.f_blocks else None,
    }


def mount_point_of(path):
    """Return where the filesystem of a path without links is mounted.

    As the agent finds it: the longest mount point that begins the path, and of equal ones the
    last; what is bound onto itself is none.
    """
    stack = []
    with open(MOUNTINFO, encoding='utf-8', errors='surrogateescape') as lines:
        for line in lines:
            _, _, device, root, point = [unescaped(field) for field in line.split(' ')[:5]]
            if path == point or path.startswith(point.rstrip('/') + '/'):
                stack.append((point, device, root))
    stack.sort(key=lambda mount: len(mount[0]))
    while len(stack) > 1 and _is_bound_onto_itself(stack[-1], stack[-2]):
        stack.pop()
    return stack[-1][0] if stack else '/'


def _is_bound_onto_itself(mount, below):
    there = os.path.relpath(mount[0], below[0])
    return mount[1:] == (below[1], os.path.normpath(os.path.join(below[2], there)))


def unescaped(field):
    """Return a field of mountinfo, in which the kernel writes four characters in octal."""
    for octal, one in (('040', ' '), ('011', '\t'), ('012', '\n'), ('134', '\\')):
        field = field.replace('\\' + octal, one)
    return field


# What libvirt restores: "restore" comes first, then "prepare", as for every guest


def note_restore(guest, state_path):
    """Leave a note for the ``prepare`` that follows; without one, it would refuse."""
    path = _restore_note(guest, state_path)
    if not path:
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    # The directory is the agent's, which need not be root: no link of its may lead elsewhere.
    note = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(note, str(uptime()).encode('ascii'))
    os.close(note)


def take_restore_note(guest, state_path):
    """Tell whether ``restore`` has just been called for the guest; the note serves once."""
    path = _restore_note(guest, state_path)
    try:
        with open(path) as stream:
            noted = int(stream.read(32))
        os.unlink(path)
    except (OSError, ValueError, TypeError):
        return False
    return 0 <= uptime() - noted <= RESTORE_SECONDS


def _restore_note(guest, state_path):
    if len(guest.uuid) != 36 or guest.uuid.strip('0123456789abcdef-'):
        return None
    return os.path.join(os.path.dirname(state_path), 'restoring-' + guest.uuid)


# The hook

DOING = {
    'prepare': ('start', 'starts'),
    'migrate': ('migrate', 'migrates'),
    'restore': ('be restored', 'is restored'),
}
"""The operations in which a guest arrives; no other one is looked at."""


def clean(text, longest=200):
    """Return ``text`` so that it can do no harm in a log or a terminal."""
    text = ''.join(one if ' ' <= one <= '~' else '?' for one in text[: longest + 1])
    return text if len(text) <= longest else text[:longest] + '...'


def say(verdict, operation, host_name, who, words):
    """Write the hook's one line; ``who`` is the guest's name, and its UUID where it is known."""
    start, starts = DOING[operation]
    happens = {
        REFUSE: f'may not {start} here',
        WARN: f'{starts} here all the same',
        PASS: f'{starts} here unchecked',
    }
    line = f'fbm hook on {host_name}: guest {who} {happens[verdict]}: {words}\n'
    if verdict != REFUSE:
        line = 'warning: ' + line
    try:
        os.write(2, line.encode('ascii', 'replace'))
    except OSError:
        pass
    log(line)


def log(line):
    """Write to the system's log.

    libvirt drops the words of a hook that lets a guest through, and where the store hangs so does
    libvirt's clean-up after a refusal.
    """
    import syslog  # noqa: PLC0415 - mostly there is nothing to say, and it costs time

    syslog.openlog('fbm-hook', 0, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, line.strip())


def read_stdin():
    """Return what stdin has, at most one byte more than is allowed."""
    chunks, left = [], XML_MAX_BYTES + 1
    while left:
        chunk = os.read(0, min(left, 1 << 20))
        if not chunk:
            break
        chunks.append(chunk)
        left -= len(chunk)
    return b''.join(chunks)


def is_foreign(xml):
    """Tell whether unreadable XML is whole all the same, and has nothing of Nova's."""
    # Without NULs: it might be UTF-16.
    text = xml.replace(b'\0', b'')
    return text.rstrip().endswith(b'</domain>') and NOVA.encode('ascii') not in text


def judge(operation, host, xml, state_path):
    """Look at what must be looked at; return the Guest, the verdict and the words."""
    guest = parse_guest(xml)
    store, restoring = None, False
    if needs_store(operation, guest, host):
        store = look_at_store(host.store_path, host.store_mount_point)
        for _ in range(ROOM_TRIES):
            # A guest that restarts: XFS frees its old file a moment after that is gone.
            if not lacks_room(guest, store):
                break
            time.sleep(ROOM_SECONDS)
            store = look_at_store(host.store_path, host.store_mount_point)
    if guest.nova and operation == 'prepare':
        restoring = take_restore_note(guest, state_path)
    verdict, words = decide(operation, guest, host, store, restoring)
    if operation == 'restore' and words:
        try:
            note_restore(guest, state_path)
        except OSError as exc:
            words += f' (libvirt prepares it next, and that will be refused: {exc.strerror})'
    return guest, verdict, words


def main(argv, state_path=STATE):
    """Return the exit code for the arguments ``argv``, libvirt's four."""
    name, operation = argv[:2]
    who = clean(name, 80)
    if operation not in DOING:
        return EXIT_PASS
    # The default action ends the process: the file beside this one then decides.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WHOLE_SECONDS)
    try:
        host = read_host(state_path)
    except NoOpinionError as exc:
        if str(exc):
            say(PASS, operation, os.uname()[1], who, str(exc))
        return EXIT_PASS
    if host.hook_mode == 'off':
        return EXIT_PASS
    xml = b''
    try:
        xml = read_stdin()
        guest, verdict, words = judge(operation, host, xml, state_path)
        if guest.uuid:
            who += f' ({clean(guest.uuid, 36)})'
    except Exception as exc:  # noqa: BLE001 - whatever it is, the host's state decides
        verdict, words = unjudged(operation, host, xml, exc)
    if words:
        say(verdict, operation, host.name, who, words)
    return EXIT_REFUSE if verdict == REFUSE else EXIT_PASS


def unjudged(operation, host, xml, exc):
    """Return the verdict and the words where an error ended the judgement."""
    must_fit = host.enabled and host.hook_mode == 'enforce' and operation != 'restore'
    if isinstance(exc, UnreadableXMLError):
        what = 'its XML is not readable'
    else:
        what = f'the hook itself is broken: {type(exc).__name__}'
    words = f'{what}: {clean(str(exc))}; run "fbm-status hook check"'
    return (REFUSE if must_fit and not is_foreign(xml) else WARN), words


if __name__ == '__main__':
    # Python's own end costs a millisecond, and nothing is open.
    os._exit(main(sys.argv[1:]))
