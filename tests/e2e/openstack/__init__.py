# SPDX-License-Identifier: Apache-2.0
"""A whole cloud on one machine: every service real, its compute hosts are the lab's.

Keystone, Placement, Glance and Nova from PyPI, MariaDB and RabbitMQ from Debian, libvirt and QEMU
(emulating). Not there, but replaced: a network (:mod:`tests.services.network`), shares
(:mod:`tests.services.shares`), and a remote shell between the hosts (:mod:`.remote_shell`).
Everything listens on 127.0.0.x or on Unix sockets, and is gone when the process that started it
is.
"""
