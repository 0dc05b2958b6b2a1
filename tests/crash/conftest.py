# SPDX-License-Identifier: Apache-2.0
"""It survives itself: the daemon, monitors, jobs and workers are killed at every place where
something could be left half-done."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fixtures import archive, busybox  # noqa: E402,F401
