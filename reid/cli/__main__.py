"""``python -m reid.cli``: the same as the ``reid`` command."""

from __future__ import annotations

import sys

from reid.cli import main

sys.exit(main())
