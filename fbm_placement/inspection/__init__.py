# SPDX-License-Identifier: Apache-2.0
"""``fbm-status guests``: how guests' memory is really backed, and what was left in the store.

mappings     what a guest's memory is, from its process's mappings (pure)
files_in_use which files any process has open or mapped
domains      which guests libvirt runs, by the names of their directories in the store
orphans      RAM files of no running guest
removal      takes them away
report       one look, all of it together
rendering    the report as a table for people and as JSON for programs (pure)
"""
