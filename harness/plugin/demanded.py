"""What did a test demand of its run? The run that the fixture hands in notes it, for the session's record."""

from __future__ import annotations

from pathlib import Path

from harness.guarantee import Guarantee
from harness.run import Run


class DemandedRun(Run):
    """A run that notes which guarantees were demanded, by name."""

    def __init__(self, path: Path | str, *, seed: int | None = None) -> None:
        super().__init__(path, seed=seed)
        self.kept: list[str] = []
        self.violated: list[str] = []

    def must_keep(self, *guarantees: Guarantee | str) -> None:
        """Demand that these guarantees (none named: the claims in scope) are HELD."""
        self.kept += [str(guarantee) for guarantee in guarantees or self.claims]
        super().must_keep(*guarantees)

    def must_violate(self, *guarantees: Guarantee | str) -> None:
        """Demand that these guarantees are VIOLATED."""
        self.violated += [str(guarantee) for guarantee in guarantees]
        super().must_violate(*guarantees)
