# SPDX-License-Identifier: Apache-2.0
"""How Placement is spoken to, by the agent and by the scheduler's side."""
