# SPDX-License-Identifier: Apache-2.0
"""The libvirt hook: its two files, and what puts them into libvirt's directory of hooks.

The files import nothing of this package: libvirt runs copies of them with the system's python3,
and they must go on working while this package is upgraded or gone.
"""
