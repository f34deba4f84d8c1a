"""fill.py FILE COUNT: runs fill.sql on an SQLite file."""

import sqlite3
import sys
from pathlib import Path

file, count = sys.argv[1:]
fill = Path(__file__).with_suffix(".sql").read_text().replace(":count", count)
# No journal is needed: if filling fails, the file is deleted.
sqlite3.connect(file).executescript(f"""
    PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000;
    BEGIN; {fill} COMMIT;
    ANALYZE; PRAGMA journal_mode = WAL;
""")
