# SPDX-License-Identifier: Apache-2.0
"""``fbm-status upgrade check``: whether file-backed memory is well here, or may be turned on.

rules      what makes a success, a warning or a failure of what was seen (pure)
versions   which QEMU and libvirt run here
rights     what Placement lets us do, without doing it
checks     all of them in the order in which they are told
"""
