"""Takes single files out of a wheel.

Usage: take_from_wheel.py WHEEL MEMBER=TARGET...
A wheel is a zip file; `python -m zipfile -e` would unpack the whole of it.
"""

import pathlib
import sys
import zipfile


def main(wheel: str, *pairs: str) -> None:
    """Write each MEMBER of the wheel to its TARGET; exit with a message if it has none of that name."""
    with zipfile.ZipFile(wheel) as archive:
        for pair in pairs:
            member, target = pair.split("=", 1)
            try:
                content = archive.read(member)
            except KeyError:
                sys.exit(f"{pathlib.Path(wheel).name} has no {member}")
            pathlib.Path(target).write_bytes(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
