"""Print one of the two commands of README.md: the first ```bash block under its heading.

python3 .ci/commands.py README.md "Run it"
"""

import re
import sys
from pathlib import Path


def command(text: str, heading: str) -> str:
    """The first ```bash block after the heading and before the next heading of the same depth."""
    section = re.search(rf"^## {re.escape(heading)}\s*$(.*?)(?=^## |\Z)", text, flags=re.M | re.S)
    if not section:
        sys.exit(f'README.md has no heading "## {heading}".')
    block = re.search(r"^```bash\n(.*?)^```\s*$", section.group(1), flags=re.M | re.S)
    if not block or not block.group(1).strip():
        sys.exit(f'README.md has no ```bash block under "## {heading}".')
    return block.group(1).strip()


if __name__ == "__main__":
    print(command(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2]))
