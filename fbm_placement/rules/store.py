# SPDX-License-Identifier: Apache-2.0
"""Whether the store is fit for the host's capacity."""

from collections.abc import Iterator

from fbm_placement.model import Mount, Problem, Store

MIB = 2**20
TOO_SMALL = 'too-small'

UNFIT = {
    'network': ('nfs', 'nfs4', 'cifs', 'smb3', 'ceph', 'glusterfs', '9p', 'afs', 'lustre'),
    'userspace': ('fuse', 'fuseblk'),
    'container': ('overlay', 'aufs', 'squashfs', 'erofs', 'iso9660'),
    'kernel': ('proc', 'sysfs', 'devtmpfs', 'cgroup2', 'ramfs', 'rootfs', 'virtiofs'),
}
"""Filesystems that can't hold guests' memory: they go away, or they don't count what they hold."""


def problems(
    store: Store, capacity_mib: int, qemu_uids: frozenset[int], trusted_uids: frozenset[int]
) -> tuple[Problem, ...]:
    """Return every reason why the store is not fit; none: it is healthy.

    :param capacity_mib: what instances may be allocated on this host, MiB
    :param qemu_uids: whom QEMU runs as; none: not known
    :param trusted_uids: who may own the store, apart from QEMU's user
    """
    blocking = _not_mounted(store)
    if blocking is None and store.mount is not None:
        blocking = _unusable(store, store.mount)
    if blocking is not None:
        return (blocking,)
    return (*_directories(store, qemu_uids, trusted_uids), *_contents(store, capacity_mib))


def misplaced(path: str) -> Problem | None:
    """Return why no store belongs there, which the agent's unit would not see (PrivateTmp=)."""
    if not path.startswith(('/tmp/', '/var/tmp/')):  # noqa: S108 - refused
        return None
    return Problem(
        'temporary',
        f'the store {path} is in a directory for temporary files, from which systemd-tmpfiles '
        'removes what is old, and of which each service has its own: mount it elsewhere, such as '
        'on /srv/fbm, name that as memory_backing_dir, then restart libvirtd',
    )


def is_disk(store: Store) -> bool | None:
    """Return whether the store is a disk; None: what is there is not the store, or not seen."""
    return store.is_disk if _not_mounted(store) is None else None


def _not_mounted(store: Store) -> Problem | None:
    path, seen = store.path, store.mount.mount_point if store.mount else None
    expected = store.expected_mount or ''
    if store.error is not None:
        return Problem(
            'unseen',
            f'the store {path} cannot be checked: {store.error}; check its device and filesystem '
            '(dmesg, mount), or correct memory_backing_dir',
        )
    if seen is None:
        return Problem(
            'missing',
            f'memory_backing_dir {path} does not exist; libvirtd would create it on the '
            'filesystem above, mostly the root disk: mount the store there, then restart libvirtd',
        )
    if len(expected) > len(seen):
        return Problem(
            'not-mounted',
            f'the store is not mounted: {path} is on {seen}, expected on {expected} '
            f'(fstab, or seen there earlier); mount {expected}, then restart libvirtd',
        )
    if seen == '/':
        return Problem(
            'not-mounted',
            f'the store is not mounted: {path} is on the root filesystem, which guests would '
            'fill; mount the store there, then restart libvirtd (if it must be the root disk: '
            f'mount --bind /another/directory {path})',
        )
    return None


def _unusable(store: Store, mount: Mount) -> Problem | None:
    path, kind = store.path, mount.filesystem
    for group, members in UNFIT.items():
        if kind.partition('.')[0] in members:
            return Problem(
                'filesystem',
                f"the store {path} is a {kind} filesystem ({group}), which cannot hold guests' "
                'memory; expected a local disk filesystem (xfs, ext4) or a tmpfs',
            )
    if not store.is_directory:
        return Problem(
            'not-a-directory',
            f'memory_backing_dir {path} is not a directory: name the directory of the store',
        )
    if store.size_bytes == 0:
        return Problem('no-size', f'the store {path} ({kind}) has no limit: mount it with size=')
    # ext4 calls it emergency_ro since Linux 6.16.
    if mount.options & {'ro', 'emergency_ro'}:
        return Problem(
            'read-only',
            f'the filesystem of the store {path} is read-only, as after an error of its device: '
            'check dmesg, repair it, and mount it read-write',
        )
    if all(directory.path != store.ram_directory for directory in store.directories):
        return Problem(
            'mounted-late',
            f'{store.ram_directory} is missing, which libvirtd makes when it starts, so guests '
            'would fail: the store was mounted later, or is not mounted, or libvirtd has another '
            f'memory_backing_dir; check whether it is mounted (findmnt -T {path}), then restart '
            'libvirtd (running guests continue)',
        )
    return None


def _directories(
    store: Store, qemu_uids: frozenset[int], trusted_uids: frozenset[int]
) -> Iterator[Problem]:
    uids = ', '.join(map(str, sorted(qemu_uids)))
    for directory in store.directories:
        path, mode = directory.path, f'mode {directory.mode:04o}'
        if qemu_uids and directory.uid not in trusted_uids | qemu_uids:
            yield Problem(
                f'owner:{path}',
                f"{path} belongs to user id {directory.uid}, who could read guests' memory; "
                f"expected root or QEMU's user: chown root {path}",
            )
        elif directory.mode & 0o1002 == 0o002:
            # A sticky bit keeps others from replacing a guest's file.
            yield Problem(
                f'mode:{path}',
                f'{path} can be written by every user of the host ({mode}); chmod o-w {path}',
            )
        # libvirt leaves such a directory after a failed start.
        if qemu_uids and not any(directory.lets_in(uid) for uid in qemu_uids):
            yield Problem(
                f'access:{path}',
                f'QEMU (user id {uids}) cannot enter {path} ({mode}), so guests fail with '
                f'"Permission denied": chmod o+x {path}',
            )


def _contents(store: Store, capacity_mib: int) -> Iterator[Problem]:
    if store.exposed:
        more = f' and {len(store.exposed) - 2} more' if len(store.exposed) > 2 else ''
        yield Problem(
            'readable-memory',
            'every user of the host can read the memory of guests '
            f'({", ".join(store.exposed[:2])}{more}): chmod o-x {store.ram_directory}',
        )
    held_mib, free_mib = store.ram_bytes // MIB, store.free_bytes // MIB
    if capacity_mib > held_mib + free_mib:
        yield Problem(
            TOO_SMALL,
            f'the store {store.path} cannot hold the capacity: {capacity_mib} MiB, of which '
            f'running guests hold {held_mib}, and {free_mib} MiB are free: '
            f'{capacity_mib - held_mib - free_mib} MiB too little; remove other files '
            '(fbm-status guests shows those of guests that have ended, '
            f'du -x {store.path} all others), enlarge it, or set '
            f'[libvirt]file_backed_memory to {held_mib + free_mib} or less',
        )
