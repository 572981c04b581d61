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

    def settle(self) -> None:
        """Demand the claims in scope that the test neither demanded nor expected to break: a cell is no better known
        than what is claimed of it. Raises as must_keep does."""
        rest = [claim for claim in self.claims if str(claim) not in {*self.kept, *self.violated}]
        if rest and not self.kept and not self.violated:
            self.must_keep(*rest)
        elif rest:
            super().must_keep(*rest)

    def must_violate(self, *guarantees: Guarantee | str) -> None:
        """Demand that these guarantees are VIOLATED."""
        self.violated += [str(guarantee) for guarantee in guarantees]
        super().must_violate(*guarantees)
