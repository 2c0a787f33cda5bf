"""Packages. What needs a package index is started by ``make test-packages`` alone."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("FETCHD_INDEX") else ["test_index.py"]
