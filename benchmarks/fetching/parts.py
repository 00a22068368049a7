"""`python -m benchmarks.fetching.parts URI DIR MIB`: `listener fetch` with parts of that size, 0 for whole objects."""

from __future__ import annotations

import sys

from listener.artifacts import into, parts

_WHOLE = 1 << 50


def main() -> int:
    uri, folder, size = sys.argv[1:]
    part = (int(size) << 20) or _WHOLE
    parts.part_size = lambda sizes: part
    return into.main(uri, folder, is_dry=False)


if __name__ == "__main__":
    sys.exit(main())
