# SPDX-License-Identifier: Apache-2.0
"""``fbm-status guests``: how guests' memory is backed, and which RAM files have no guest.

mappings  what a guest's memory is, from its process's mappings
orphans   RAM files of no running guest: finds and removes them
report    everything that one scan saw
output    the report as tables and as JSON
"""
