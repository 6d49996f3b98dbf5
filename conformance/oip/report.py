"""What a check prints: a line for each thing that was tried, a verdict at the end, and an exit status."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

#: Failures of one kind that are told; the rest is counted.
TOLD = 20


@dataclass
class Report:
    """Collects what failed. `ok()` and `failed()` count; `table()` prints a row; `finish()` ends."""

    name: str
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def ok(self, count: int = 1) -> None:
        """Something was as it should be."""
        self.passed += count

    def failed(self, what: str) -> None:
        """Something was not."""
        self.failures.append(what)

    def expect(self, what: str, condition: bool, otherwise: str = "") -> bool:
        """Count one thing; `otherwise` says what was seen instead."""
        if condition:
            self.ok()
        else:
            self.failed(f"{what}: {otherwise}" if otherwise else what)
        return condition

    def attempt(self, what: str, check: Callable[[], None]) -> bool:
        """Run `check`, which raises whatever its client raises; its text is the failure."""
        try:
            check()
        except Exception as error:  # a client's exceptions are its answer
            self.failed(f"{what}: {type(error).__name__}: {error}")
            return False
        self.ok()
        return True

    def finish(self, minimum: int = 1) -> int:
        """Print failures and the verdict; the exit status."""
        for failure in self.failures[:TOLD]:
            print(f"FAILED  {failure}")
        if len(self.failures) > TOLD:
            print(f"FAILED  and {len(self.failures) - TOLD} more")
        if self.passed + len(self.failures) < minimum:
            self.failures.append("too few")
            print(f"FAILED  only {self.passed + len(self.failures)} checks were made, expected at least {minimum}")
        verdict = f"{len(self.failures)} FAILED" if self.failures else "all passed"
        print(f"{self.name}: {self.passed} checks passed, {verdict}, {time.monotonic() - self.started:.0f} s")
        return 1 if self.failures else 0
