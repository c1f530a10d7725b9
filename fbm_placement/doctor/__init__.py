# SPDX-License-Identifier: Apache-2.0
"""``fbm-status upgrade check``: whether file-backed memory can be turned on here, or works."""
