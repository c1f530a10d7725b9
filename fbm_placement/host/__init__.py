# SPDX-License-Identifier: Apache-2.0
"""The host itself: which guests run here, how their memory is backed, and how the store is.

guests       what a QEMU command line tells of a guest (pure)
processes    /proc: the running guests
mounts       /proc/self/mountinfo: which mount a path is on
libvirt      where libvirt puts the RAM files
store        what can be seen of the store
probe        a look that may hang, in a process of its own
health       the rules that tell whether the store is fit for the promise (pure)
draining     the rules that tell which guests don't match the configured state (pure)
look         all of it together, once a pass
state_file   /run/fbm-agent/host.json, for libvirt's hook and for fbm-status
announce     what a look found, told in the log and in that file
"""
