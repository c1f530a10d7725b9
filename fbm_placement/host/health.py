# SPDX-License-Identifier: Apache-2.0
"""The rules that tell whether the store is fit for what the host promises.

Each rule says what was seen, why that is no store, and what mends it.
"""

from collections.abc import Sequence

from fbm_placement.host import libvirt
from fbm_placement.host.state_file import Recovery
from fbm_placement.host.store import Store

GOOD_LOOKS = 3
"""So many looks in a row must find the store well before it counts as well again."""

MIB = 2**20

UNFIT = {
    'network': ('nfs', 'nfs4', 'cifs', 'smb3', 'ceph', 'glusterfs', '9p', 'afs', 'lustre'),
    'userspace': ('fuse', 'fuseblk'),
    'container': ('overlay', 'aufs', 'squashfs', 'erofs', 'iso9660'),
    'kernel': ('proc', 'sysfs', 'devtmpfs', 'cgroup2', 'ramfs', 'rootfs', 'virtiofs'),
}
"""Filesystems that can't hold guests' memory: they go away, or they don't count what they hold."""


def ailments(
    store: Store,
    promised_mib: int,
    qemu_uids: frozenset[int],
    trusted_uids: frozenset[int] = frozenset({0}),
) -> tuple[str, ...]:
    """Return every reason why the store is not fit; none: it is healthy.

    :param promised_mib: what instances may be allocated on this host, MiB
    :param qemu_uids: whom QEMU runs as; none: not known
    :param trusted_uids: who may own the store beside QEMU's user
    """
    for rule in (_unseen, _missing, _not_a_directory, _not_mounted, _unfit, _read_only, _late):
        # What stands in the way of the others is told alone.
        if (reason := rule(store)) is not None:
            return (reason,)
    found = (
        *_not_private(store, trusted_uids | qemu_uids if qemu_uids else None),
        *_closed(store, qemu_uids),
        _too_small(store, promised_mib),
    )
    return tuple(reason for reason in found if reason is not None)


def lacking_mib(store: Store, promised_mib: int) -> int:
    """Return how much room is missing, MiB; 0 or less: there is enough, or no store to measure."""
    if store.mount is None or store.size_bytes == 0:
        return 0
    return promised_mib - store.ram_bytes // MIB - store.free_bytes // MIB


RECOVERING = 'seen well'
"""How a reason begins that is over but for the looks that it takes."""


class Convalescence:
    """Lets a reason count until some looks in a row haven't found it: no flapping."""

    def __init__(self, good_looks: int = GOOD_LOOKS) -> None:
        """Wait for so many."""
        self._needed = good_looks
        self._good = 0
        self._last: tuple[str, ...] = ()

    @property
    def recovery(self) -> Recovery | None:
        """How far it is, for the next process; None: all is well."""
        return Recovery(self._last[0], self._good) if self._last else None

    def recall(self, recovery: Recovery | None) -> None:
        """Go on where another process was."""
        if recovery is not None:
            self._last, self._good = (recovery.reason,), recovery.good_looks

    def after(self, reasons: tuple[str, ...]) -> tuple[str, ...]:
        """Return the reasons that count after a look that found these."""
        if reasons:
            self._last, self._good = reasons, 0
            return reasons
        if not self._last:
            return ()
        self._good += 1
        if self._good >= self._needed:
            self._last = ()
            return ()
        seen = f'{RECOVERING} {self._good} of {self._needed} times in a row that it takes'
        return (f'{seen}; there is nothing to do but wait (it was: {self._last[0]})',)


def _unseen(store: Store) -> str | None:
    if store.trouble is None:
        return None
    return (
        f'the store {store.path} cannot be looked at: {store.trouble}; look at its device and '
        'filesystem (dmesg, mount), or mend memory_backing_dir'
    )


def _missing(store: Store) -> str | None:
    if store.exists:
        return None
    return (
        f'memory_backing_dir {store.path} does not exist; libvirtd would create it wherever it '
        'falls, mostly on the root disk: mount the store there, then restart libvirtd'
    )


def _not_a_directory(store: Store) -> str | None:
    if store.is_directory:
        return None
    return f'memory_backing_dir {store.path} is not a directory: name the directory of the store'


def _not_mounted(store: Store) -> str | None:
    if store.mount is None:
        return None
    seen, expected = store.mount.mount_point, store.expected_mount
    if expected is not None and len(expected) > len(seen):
        return (
            f'the store is not mounted: {store.path} is on {seen}, expected on {expected} '
            f'(fstab, or seen there earlier); mount {expected}, then restart libvirtd'
        )
    if seen == '/':
        return (
            f'the store is not mounted: {store.path} is on the root filesystem, which guests '
            "would fill; mount the store's device or tmpfs there, then restart libvirtd "
            f'(if it must be the root disk: mount --bind /another/directory {store.path})'
        )
    return None


def _unfit(store: Store) -> str | None:
    if store.mount is None:
        return None
    kind = store.mount.filesystem
    for group, members in UNFIT.items():
        if kind in members or kind.partition('.')[0] in members:
            return (
                f'the store {store.path} is a {kind} filesystem ({group}), which cannot hold '
                "guests' memory; expected a local disk filesystem (xfs, ext4) or a tmpfs"
            )
    if store.size_bytes == 0:
        return (
            f'the store {store.path} ({kind}) has no size of its own, so it cannot be known what '
            'it can hold; mount it with size='
        )
    return None


def _read_only(store: Store) -> str | None:
    # ext4 calls it emergency_ro since Linux 6.16.
    if store.mount is None or not store.mount.options & {'ro', 'emergency_ro'}:
        return None
    return (
        f'the filesystem of the store {store.path} is read-only, as after an error of its device: '
        'look at dmesg, repair it, and mount it read-write'
    )


def _late(store: Store) -> str | None:
    if store.libvirt_is_ready:
        return None
    return (
        f'{libvirt.ram_directory(store.path)} is missing, which libvirtd makes when it starts: '
        'the store was mounted after that, or is not mounted, or libvirtd has another '
        'memory_backing_dir, and guests would fail; look whether it is mounted (findmnt -T '
        f'{store.path}), then restart libvirtd (running guests live on)'
    )


def _not_private(store: Store, trusted_uids: frozenset[int] | None) -> list[str]:
    reasons = []
    for directory in store.directories:
        if trusted_uids is not None and directory.uid not in trusted_uids:
            reasons.append(
                f"{directory.path} belongs to user id {directory.uid}, who could read guests' "
                f"memory; expected root or QEMU's user: chown root {directory.path}"
            )
        elif directory.others_can_write:
            reasons.append(
                f'{directory.path} can be written by every user of the host (mode '
                f'{directory.mode:04o}); chmod o-w {directory.path}'
            )
    if store.exposed:
        reasons.append(
            f'every user of the host can read the memory of guests ({_some(store.exposed)}): '
            f'chmod o-x {libvirt.ram_directory(store.path)}'
        )
    return reasons


def _closed(store: Store, qemu_uids: frozenset[int]) -> list[str]:
    """Tell where QEMU can't get in: libvirt leaves such a directory after a failed start."""
    if 0 in qemu_uids or not qemu_uids:
        return []
    return [
        f'QEMU (user id {", ".join(str(uid) for uid in sorted(qemu_uids))}) cannot enter '
        f'{directory.path} (mode {directory.mode:04o}), so guests fail with "Permission denied": '
        f'chmod o+x {directory.path}'
        for directory in store.directories
        if not any(directory.lets_in(uid) for uid in qemu_uids)
    ]


def _too_small(store: Store, promised_mib: int) -> str | None:
    lacking = lacking_mib(store, promised_mib)
    if lacking <= 0:
        return None
    held_mib, free_mib = store.ram_bytes // MIB, store.free_bytes // MIB
    fits = held_mib + free_mib
    return (
        f'the store {store.path} cannot hold what is promised: {promised_mib} MiB, of which '
        f'running guests hold {held_mib}, and {free_mib} MiB are free: {lacking} MiB too little; '
        'remove what else is there (fbm-status guests shows files of guests that are gone, '
        f'du -x {store.path} all others), '
        f'enlarge it, or set [libvirt]file_backed_memory to {fits} or less'
    )


def _some(paths: Sequence[str], most: int = 2) -> str:
    more = f' and {len(paths) - most} more' if len(paths) > most else ''
    return ', '.join(paths[:most]) + more
