"""Cut scikit-learn's handwritten digits into forty clients that write different digits.

Data: 1,797 images of 8 x 8 pixels, 10 classes (E. Alpaydin, C. Kaynak, UCI 1998), shipped with scikit-learn (BSD).
The federation is ours, not the data's: the rows of each digit are dealt to the clients with shares drawn from
Dirichlet(0.3) (Hsu, Qi and Brown 2019), by a fixed seed. So most clients see a few digits only.
"""

import sys
from pathlib import Path

import numpy as np

CLIENTS = 40
CONCENTRATION = 0.3
SEED = 3
ADAPTER = "# Written by prepare.py; every client's file is named the contract's way.\nsource: ../{name}.csv\n"


def main() -> None:
    """Write data/<client>.csv and data/sites/<client>.yaml."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        print("digits: the images come with scikit-learn: pip install scikit-learn", file=sys.stderr)
        raise SystemExit(2) from None
    images, labels = load_digits(return_X_y=True)
    owners = deal(labels)
    folder = Path(__file__).parent / "data"
    (folder / "sites").mkdir(parents=True, exist_ok=True)
    header = ",".join([*(f"p{row}{column}" for row in range(8) for column in range(8)), "digit"])
    for client in range(CLIENTS):
        name, held = f"c{client:02}", owners == client
        rows = np.column_stack([images[held], labels[held]])
        np.savetxt(folder / f"{name}.csv", rows, fmt="%d", delimiter=",", header=header, comments="")
        (folder / "sites" / f"{name}.yaml").write_text(ADAPTER.format(name=name), encoding="utf-8")
    sizes = np.bincount(owners)
    print(f"digits: wrote {CLIENTS} clients of {sizes.min()} to {sizes.max()} rows, {len(labels):,} in all, to data/")


def deal(labels: np.ndarray) -> np.ndarray:
    """Give the owner of every row: for each class, clients drawn with the shares of one Dirichlet sample."""
    rng = np.random.default_rng(SEED)
    owners = np.empty(len(labels), int)
    for digit in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == digit))
        owners[rows] = rng.choice(CLIENTS, len(rows), p=rng.dirichlet(np.full(CLIENTS, CONCENTRATION)))
    return owners


if __name__ == "__main__":
    main()
