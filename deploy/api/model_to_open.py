"""The model file that a call opens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reid.matching as matching
from reid.matching.lower_precision import say_lower_precision
from reid.progress import say


@dataclass(frozen=True, slots=True)
class ModelToOpen:
    """The model file, and how it is opened."""

    path: Path
    device: str = "auto"
    threads: int = 0
    batch: int | None = None

    def matcher(self) -> matching.Matcher[Any]:
        """The opened model, which the caller closes. Raises what ``open_matcher`` raises."""
        matcher = matching.open_matcher(self.path, self.device, self.threads, self.batch)
        say_lower_precision(self.device, matcher.backend, say)
        return matcher
