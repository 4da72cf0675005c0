"""Write losses.json: twenty training steps of each head and objective, as this code makes them now.

    python -m tests.golden.make_losses

Run it after a change that is meant to move them, and say in CHANGELOG.md which it moves and why.
"""

from __future__ import annotations

import json

from tests.stages import twenty_steps


def main() -> None:
    lines = [f"  {json.dumps(name)}: {json.dumps(twenty_steps.losses(name))}" for name in twenty_steps.CASES]
    twenty_steps.GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
