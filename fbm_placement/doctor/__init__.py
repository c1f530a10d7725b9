# SPDX-License-Identifier: Apache-2.0
"""``fbm-status upgrade check``: whether file-backed memory can be turned on here, or works.

facts      what the checks need to know, each read once and only if it is needed
checks     what makes a success, a warning or a failure of the facts (pure)
"""
