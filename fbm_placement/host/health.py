# SPDX-License-Identifier: Apache-2.0
"""The rules that tell whether the store is fit for what the host promises.

Each rule says what was seen, why that is no store, and what mends it.
"""

from collections.abc import Iterator, Sequence

from fbm_placement.host import libvirt
from fbm_placement.host.mounts import Mount
from fbm_placement.host.store import Store
from fbm_placement.model import Problem

MIB = 2**20

UNFIT = {
    'network': ('nfs', 'nfs4', 'cifs', 'smb3', 'ceph', 'glusterfs', '9p', 'afs', 'lustre'),
    'userspace': ('fuse', 'fuseblk'),
    'container': ('overlay', 'aufs', 'squashfs', 'erofs', 'iso9660'),
    'kernel': ('proc', 'sysfs', 'devtmpfs', 'cgroup2', 'ramfs', 'rootfs', 'virtiofs'),
}
"""Filesystems that can't hold guests' memory: they go away, or they don't count what they hold."""


def problems(
    store: Store,
    promised_mib: int,
    qemu_uids: frozenset[int],
    trusted_uids: frozenset[int] = frozenset({0}),
) -> tuple[Problem, ...]:
    """Return every reason why the store is not fit; none: it is healthy.

    :param promised_mib: what instances may be allocated on this host, MiB
    :param qemu_uids: whom QEMU runs as; none: not known
    :param trusted_uids: who may own the store beside QEMU's user
    """
    blocking = _blocking(store)
    if blocking is not None:
        return (blocking,)
    return (
        *_not_private(store, trusted_uids | qemu_uids if qemu_uids else None),
        *_closed(store, qemu_uids),
        *_too_small(store, promised_mib),
    )


def lacking_mib(store: Store, promised_mib: int) -> int:
    """Return how much room is missing, MiB; 0 or less: there is enough, or no store to measure."""
    if store.mount is None or store.size_bytes == 0:
        return 0
    return promised_mib - store.ram_bytes // MIB - store.free_bytes // MIB


def _blocking(store: Store) -> Problem | None:
    """Return the problem that prevents the other checks, or makes them pointless."""
    path, mount = store.path, store.mount
    if store.error is not None:
        return Problem(
            'unseen',
            f'the store {path} cannot be looked at: {store.error}; look at its device and '
            'filesystem (dmesg, mount), or mend memory_backing_dir',
        )
    if mount is None:
        return Problem(
            'missing',
            f'memory_backing_dir {path} does not exist; libvirtd would create it wherever it '
            'falls, mostly on the root disk: mount the store there, then restart libvirtd',
        )
    if not store.is_directory:
        return Problem(
            'not-a-directory',
            f'memory_backing_dir {path} is not a directory: name the directory of the store',
        )
    return (
        _not_mounted(path, mount.mount_point, store.expected_mount)
        or _unfit(store, mount)
        or _late(store)
    )


def _not_mounted(path: str, seen: str, expected: str | None) -> Problem | None:
    if expected is not None and len(expected) > len(seen):
        return Problem(
            'not-mounted',
            f'the store is not mounted: {path} is on {seen}, expected on {expected} '
            f'(fstab, or seen there earlier); mount {expected}, then restart libvirtd',
        )
    if seen == '/':
        return Problem(
            'not-mounted',
            f'the store is not mounted: {path} is on the root filesystem, which guests '
            "would fill; mount the store's device or tmpfs there, then restart libvirtd "
            f'(if it must be the root disk: mount --bind /another/directory {path})',
        )
    return None


def _unfit(store: Store, mount: Mount) -> Problem | None:
    kind = mount.filesystem
    for group, members in UNFIT.items():
        if kind in members or kind.partition('.')[0] in members:
            return Problem(
                'filesystem',
                f'the store {store.path} is a {kind} filesystem ({group}), which cannot hold '
                "guests' memory; expected a local disk filesystem (xfs, ext4) or a tmpfs",
            )
    if store.size_bytes == 0:
        return Problem(
            'no-size',
            f'the store {store.path} ({kind}) has no size of its own, so it cannot be known what '
            'it can hold; mount it with size=',
        )
    # ext4 calls it emergency_ro since Linux 6.16.
    if mount.options & {'ro', 'emergency_ro'}:
        return Problem(
            'read-only',
            f'the filesystem of the store {store.path} is read-only, as after an error of its '
            'device: look at dmesg, repair it, and mount it read-write',
        )
    return None


def _late(store: Store) -> Problem | None:
    if store.libvirt_is_ready:
        return None
    return Problem(
        'mounted-late',
        f'{libvirt.ram_directory(store.path)} is missing, which libvirtd makes when it starts: '
        'the store was mounted after that, or is not mounted, or libvirtd has another '
        'memory_backing_dir, and guests would fail; look whether it is mounted (findmnt -T '
        f'{store.path}), then restart libvirtd (running guests live on)',
    )


def _not_private(store: Store, trusted_uids: frozenset[int] | None) -> Iterator[Problem]:
    for directory in store.directories:
        if trusted_uids is not None and directory.uid not in trusted_uids:
            yield Problem(
                f'owner:{directory.path}',
                f"{directory.path} belongs to user id {directory.uid}, who could read guests' "
                f"memory; expected root or QEMU's user: chown root {directory.path}",
            )
        elif directory.others_can_write:
            yield Problem(
                f'mode:{directory.path}',
                f'{directory.path} can be written by every user of the host (mode '
                f'{directory.mode:04o}); chmod o-w {directory.path}',
            )
    if store.exposed:
        yield Problem(
            'readable-memory',
            f'every user of the host can read the memory of guests ({_some(store.exposed)}): '
            f'chmod o-x {libvirt.ram_directory(store.path)}',
        )


def _closed(store: Store, qemu_uids: frozenset[int]) -> Iterator[Problem]:
    """Tell where QEMU can't get in: libvirt leaves such a directory after a failed start."""
    # Root gets in everywhere.
    if 0 in qemu_uids or not qemu_uids:
        return
    uids = ', '.join(str(uid) for uid in sorted(qemu_uids))
    for directory in store.directories:
        if not any(directory.lets_in(uid) for uid in qemu_uids):
            yield Problem(
                f'access:{directory.path}',
                f'QEMU (user id {uids}) cannot enter {directory.path} (mode '
                f'{directory.mode:04o}), so guests fail with "Permission denied": '
                f'chmod o+x {directory.path}',
            )


def _too_small(store: Store, promised_mib: int) -> Iterator[Problem]:
    lacking = lacking_mib(store, promised_mib)
    if lacking > 0:
        held_mib, free_mib = store.ram_bytes // MIB, store.free_bytes // MIB
        yield Problem(
            'too-small',
            f'the store {store.path} cannot hold what is promised: {promised_mib} MiB, of which '
            f'running guests hold {held_mib}, and {free_mib} MiB are free: {lacking} MiB too '
            'little; remove what else is there (fbm-status guests shows files of guests that are '
            f'gone, du -x {store.path} all others), enlarge it, or set '
            f'[libvirt]file_backed_memory to {held_mib + free_mib} or less',
        )


def _some(paths: Sequence[str], most: int = 2) -> str:
    more = f' and {len(paths) - most} more' if len(paths) > most else ''
    return ', '.join(paths[:most]) + more
