"""Takes files out of the one wheel in a folder, for the scripts that fetch libraries: each appears whole under its own name or not at all.

usage: from_wheel.py FOLDER TARGET LAST PATTERN…

PATTERN: files to take, by their path in the wheel (* stands for anything). LAST: of these the ones that are written last; where they
are, everything is.
"""
import fnmatch
import shutil
import sys
import zipfile
from pathlib import Path

folder, target, last, *patterns = sys.argv[1:]
(wheel,) = Path(folder).glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    wanted = [name for name in archive.namelist() if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    for name in sorted(wanted, key=lambda name: fnmatch.fnmatchcase(name, last)):
        whole = Path(target) / Path(name).name
        part = whole.with_name(whole.name + ".part")
        with archive.open(name) as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        part.replace(whole)
