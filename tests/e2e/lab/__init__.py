# SPDX-License-Identifier: Apache-2.0
"""Compute hosts on one machine: each is a libvirtd in namespaces of its own.

Real are libvirtd, QEMU (emulating: no KVM is needed), the guests' memory, live migration, hooks,
mounts. Not there: disks and networks of guests, which nothing here is about, and Nova: a guest's
XML is what Nova writes (:mod:`tests.e2e.lab.domain`). The hosts share this machine's network.
"""
