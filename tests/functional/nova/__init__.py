# SPDX-License-Identifier: Apache-2.0
"""The whole of Nova in one process, from the wheel, with the scheduler's side enabled."""
