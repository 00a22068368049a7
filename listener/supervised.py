"""supervisord as `listener init` runs it: `python -m listener.supervised`, with the arguments of supervisord.

By itself it waits a second before it starts anything, which is most of the time until the port is open.
"""

from __future__ import annotations

from typing import Any

from supervisor import supervisord


class Prompt(supervisord.Supervisor):  # type: ignore[misc]  # it is not typed
    """Starts the programs first, in the order of their priorities, and then does all else."""

    process_groups: dict[str, Any]

    def runforever(self) -> None:
        for group in sorted(self.process_groups.values()):
            group.transition()
        super().runforever()


if __name__ == "__main__":
    supervisord.Supervisor = Prompt
    supervisord.main()
