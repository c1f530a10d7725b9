# SPDX-License-Identifier: Apache-2.0
"""Every decision, as pure functions and classes over the dataclasses of the model."""
