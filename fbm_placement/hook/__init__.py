# SPDX-License-Identifier: Apache-2.0
"""The libvirt hook: the program and the shell file that libvirt runs copies of; install, check."""
