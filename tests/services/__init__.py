# SPDX-License-Identifier: Apache-2.0
"""Real services for the functional tests, the benchmarks and the demo.

Nothing here imitates OpenStack, except :mod:`tests.services.nova_compute`, which sends to the real
Placement what nova-compute sends. The servers listen on 127.0.0.1 only, keep everything in the
directory that they are given, and die with the process that started them.
"""
