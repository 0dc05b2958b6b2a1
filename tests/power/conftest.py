# SPDX-License-Identifier: Apache-2.0
"""The power fails, and a disk has lost what it had not been told to flush."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
