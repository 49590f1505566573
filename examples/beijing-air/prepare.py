"""Write what each of the twelve air-quality stations of Beijing would hold, from the UCI set 501.

Data: "Beijing Multi-Site Air-Quality Data" (S. Chen, UCI Machine Learning Repository, 2019, data set 501): hourly
rows of four years, 2013-03-01 to 2017-02-28. A row gets `polluted` (PM2.5 above 75 ug/m3) and `fold` (test from
--train-before on). Rows without PM2.5 have no label and are dropped; PM2.5 and PM10 are left out of the files,
because they hold the answer.
"""

import argparse
import csv
import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
DEFAULT = HERE / "../../../shared/data/beijing-air"
FILES = "PRSA_Data_*.csv*"
NO_DATA = (
    "beijing-air: no {files} in {folder}: get the UCI data set 501, 'Beijing Multi-Site Air-Quality Data', unpack it, "
    "and run: python prepare.py FOLDER"
)
DATE = ("year", "month", "day", "hour")
INPUTS = ("SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM")
LIMIT = 75.0


def main() -> None:
    """Write data/<station>.csv.gz, or say where the data set comes from and leave with exit code 2."""
    parser = argparse.ArgumentParser(description="Prepare the data of the twelve stations.")
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT, help="folder of the unpacked UCI data set 501")
    parser.add_argument("--train-before", default="2016-03-01", metavar="DATE", help="first day of the test fold")
    options = parser.parse_args()
    paths = sorted(options.folder.glob(FILES))
    if not paths:
        print(NO_DATA.format(files=FILES, folder=options.folder.resolve()), file=sys.stderr)
        raise SystemExit(2)
    (HERE / "data").mkdir(exist_ok=True)
    written = [_station(path, options.train_before) for path in paths]
    print(f"beijing-air: wrote {len(written)} stations, {sum(written):,} rows, to data/")


def _station(path: Path, train_before: str) -> int:
    """Write one station's file; gives its number of rows."""
    with _opened(path) as file:
        rows = [_held(row, train_before) for row in csv.DictReader(file) if row["PM2.5"] != "NA"]
    target = HERE / "data" / f"{path.name.split('_')[2].lower()}.csv.gz"
    text = "".join(_lines(rows)).encode()
    target.write_bytes(gzip.compress(text, compresslevel=4, mtime=0))  # no time stamp: same rows, same digest
    return len(rows)


def _opened(path: Path) -> Iterator[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _held(row: dict[str, str], train_before: str) -> dict[str, str]:
    date = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
    kept = {name: row[name] for name in (*DATE, *INPUTS)}
    fold = "train" if date < train_before else "test"
    return {**kept, "fold": fold, "polluted": str(int(float(row["PM2.5"]) > LIMIT))}


def _lines(rows: list[dict[str, str]]) -> Iterator[str]:
    yield ",".join(rows[0]) + "\n"
    yield from (",".join(row.values()) + "\n" for row in rows)


if __name__ == "__main__":
    main()
