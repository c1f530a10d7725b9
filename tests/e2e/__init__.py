# SPDX-License-Identifier: Apache-2.0
"""The whole of it on real hosts: libvirtd and QEMU, two or three of each on one machine.

Needs root and Debian's packages; `make e2e` brings the latter.
"""
