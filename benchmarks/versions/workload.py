"""The workload of the storage benchmark: 20 rounds of federated averaging of a 12.9 M parameter model, in NumPy.

A residual network (52 fp32 tensors, 51.6 MB), four sites with shifted features and skewed classes, four local SGD
steps with momentum a round. Three scenarios: `full` (high rate), `small` (low rate), `half` (half of it frozen).
Rules: everything follows from the seed; the checkpoints lie as safetensors in a folder and are made once.

    python benchmarks/versions/workload.py --cache FOLDER    # make them, print how far a round moves the weights
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

Array = NDArray[np.float32]
Model = dict[str, Array]

SITES, LOCAL_STEPS, BATCH, MOMENTUM, CLASSES = 4, 4, 16, np.float32(0.9), 10
SKEW = 0.5  # Dirichlet concentration of the classes at a site: smaller is less alike
NOISE, WRONG_LABELS = np.float32(3.0), 0.5  # a task that is never done: the updates do not die down in 20 rounds
MERGED_ROUND = 10
"""The round whose site models are kept as well: what one round's merge costs is measured on it."""


@dataclass(frozen=True)
class Size:
    """Shape of the network and length of the run."""

    width: int
    inputs: int
    blocks: int
    rounds: int


@dataclass(frozen=True)
class Scenario:
    """One way to train: the rate, and whether the input layer and the first half of the blocks stand still.

    Rates and task are such that a round's differences have the entropy, and about the size, of the measurements that
    set the goals: 0.630, 0.510 and 0.335 of raw; 1.1e-2, 4.6e-4 and 1.1e-2 of the norm.
    """

    name: str
    rate: float
    half_frozen: bool = False


REPORTED = Size(width=724, inputs=400, blocks=12, rounds=20)
SMALL = Size(width=136, inputs=48, blocks=5, rounds=4)
SCENARIOS = (Scenario("full", 0.035), Scenario("small", 0.0012), Scenario("half", 0.035, half_frozen=True))
SEED = 1


@dataclass(frozen=True)
class Workload:
    """The checkpoints of one scenario on disk: `rounds` in order, and base, site models and merge of one round."""

    scenario: Scenario
    rounds: tuple[Path, ...]
    base: Path
    sites: tuple[Path, ...]
    merged: Path

    @property
    def raw_bytes(self) -> int:
        """Bytes of one checkpoint's tensors, without any container."""
        return sum(array.nbytes for array in load_file(self.rounds[0]).values())


def workload(cache: Path, size: Size, scenario: Scenario) -> Workload:
    """Find a scenario's checkpoints under `cache`, or train them."""
    folder = cache / f"{scenario.name}-{size.width}x{size.blocks}x{size.rounds}"
    # Anything here changes what the checkpoints hold: a folder made by another recipe is made anew.
    recipe = json.dumps(
        [asdict(size), asdict(scenario), SEED, SITES, LOCAL_STEPS, BATCH, SKEW, float(NOISE), WRONG_LABELS]
    )
    stamp = folder / "recipe.json"
    if not stamp.exists() or stamp.read_text() != recipe:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with threadpool_limits(limits=1):  # how many threads add decides the last bits of a sum
            _train(folder, size, scenario)
        stamp.write_text(recipe)
    rounds = tuple(folder / f"round-{number:02}.safetensors" for number in range(1, size.rounds + 1))
    merged = _merged_round(size)
    sites = tuple(folder / f"site-{site}.safetensors" for site in range(SITES))
    return Workload(scenario, rounds, rounds[merged - 2], sites, rounds[merged - 1])


def relative_updates(paths: tuple[Path, ...]) -> list[float]:
    """Measure how far rounds move weight matrices: norm of the change over the norm before, of each that changed."""
    found, before = [], load_file(paths[0])
    for path in paths[1:]:
        after = load_file(path)
        for name in sorted(after):
            change = float(np.linalg.norm(after[name] - before[name]))
            if name.endswith(".weight") and change:
                found.append(change / float(np.linalg.norm(before[name])))
        before = after
    return found


def difference_entropy(paths: tuple[Path, ...], keyframe_every: int | None = None) -> float:
    """Order-0 entropy of the byte planes of integer differences, as a share of raw: what a lossless codec can hope for.

    The difference is to the round before, or to the last keyframe where there is one every few rounds. Keyframes and
    the first round count with their own planes, unchanged tensors with nothing. An estimate, not a bound.
    """
    base: Mapping[str, Array] = {}
    before: Mapping[str, Array] = {}
    shares = []
    for number, path in enumerate(paths):
        after = load_file(path)
        if keyframe_every and number % keyframe_every == 0:
            base = {}
        new = {name for name in after if name not in before or not np.array_equal(after[name], before[name])}
        bits = sum(_plane_bits(after[name], base.get(name)) for name in new)
        shares.append(bits / 8 / sum(array.nbytes for array in after.values()))
        before = after
        base = base or after if keyframe_every else after
    return float(np.mean(shares))


def _plane_bits(after: Array, before: Array | None) -> float:
    words = _ordered(after) if before is None else _ordered(after) - _ordered(before)
    if before is not None:
        words = (words << 1) ^ (words >> 31)  # zigzag: small differences of either sign become small numbers
    planes = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 4)
    return sum(_entropy(np.ascontiguousarray(planes[:, plane])) for plane in range(4)) * len(planes)


def _ordered(array: Array) -> NDArray[np.int32]:
    """Read floats as integers that sort alike, so that near floats differ by little."""
    bits = array.reshape(-1).view(np.int32)
    return np.where(bits < 0, np.int32(-(2**31)) - bits, bits).astype(np.int32)


def _entropy(values: NDArray[np.uint8]) -> float:
    shares = np.bincount(values, minlength=256) / max(1, len(values))
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def _merged_round(size: Size) -> int:
    return min(MERGED_ROUND, size.rounds)


def _train(folder: Path, size: Size, scenario: Scenario) -> None:
    """Run the federation and write every round; of one round the models of its sites as well."""
    generator = np.random.default_rng(SEED)
    model = _initial(size, generator)
    data = [_Site(size, site) for site in range(SITES)]
    for number in range(1, size.rounds + 1):
        trained = [_fit(model, site.batches(number), scenario, size) for site in data]
        if number == _merged_round(size):
            for site, update in enumerate(trained):
                save_file(update, folder / f"site-{site}.safetensors")
        model = _average(trained)
        save_file(model, folder / f"round-{number:02}.safetensors")


def _average(models: list[Model]) -> Model:
    """FedAvg with equal weights, summed in f64 in the order of the sites."""
    merged = {}
    for name in models[0]:
        total = np.zeros(models[0][name].shape, np.float64)
        for model in models:
            total += 0.25 * model[name]
        merged[name] = total.astype(np.float32)
    return merged


def _initial(size: Size, generator: np.random.Generator) -> Model:
    """Draw the weights as PyTorch's `Linear` does, uniform within one over the root of the inputs."""
    model: Model = {}
    layers = [("input", size.inputs, size.width), ("head", size.width, CLASSES)]
    layers += [(f"block{at:02}.{part}", size.width, size.width) for at in range(size.blocks) for part in ("up", "down")]
    for name, before, after in layers:
        bound = before**-0.5
        model[f"{name}.weight"] = generator.uniform(-bound, bound, (before, after)).astype(np.float32)
        model[f"{name}.bias"] = generator.uniform(-bound, bound, after).astype(np.float32)
    return model


class _Site:
    """One site's data: Gaussian classes around shared centres, moved by a shift of its own, in its own proportions."""

    def __init__(self, size: Size, site: int) -> None:
        shared, own = np.random.default_rng(SEED + 100), np.random.default_rng(SEED + 200 + site)
        self.centres = shared.standard_normal((CLASSES, size.inputs)).astype(np.float32)
        self.shift = own.standard_normal(size.inputs).astype(np.float32)
        self.shares = own.dirichlet(np.full(CLASSES, SKEW))
        self.site = site

    def batches(self, number: int) -> Iterator[tuple[Array, NDArray[np.int64]]]:
        """Draw the batches of one round."""
        generator = np.random.default_rng((SEED, number, self.site))
        for _ in range(LOCAL_STEPS):
            labels = generator.choice(CLASSES, BATCH, p=self.shares)
            noise = NOISE * generator.standard_normal((BATCH, self.centres.shape[1]), dtype=np.float32)
            wrong = generator.random(BATCH) < WRONG_LABELS
            told = np.where(wrong, generator.integers(0, CLASSES, BATCH), labels)
            yield self.centres[labels] + self.shift + noise, told


def _fit(start: Model, batches: Iterator[tuple[Array, NDArray[np.int64]]], scenario: Scenario, size: Size) -> Model:
    """Train at one site: SGD with momentum, which starts at rest in every round."""
    model = {name: array.copy() for name, array in start.items()}
    speed: Model = {}
    frozen = size.blocks // 2 if scenario.half_frozen else 0
    for features, labels in batches:
        for name, gradient in _gradients(model, features, labels, frozen, size.blocks):
            if name in speed:
                speed[name] *= MOMENTUM
                speed[name] += gradient
            else:
                speed[name] = gradient
        for name, step in speed.items():
            model[name] -= np.float32(scenario.rate) * step
    return model


def _gradients(
    model: Model, features: Array, labels: NDArray[np.int64], frozen: int, blocks: int
) -> Iterator[tuple[str, Array]]:
    """Give the gradients of the mean cross-entropy, from the head down to the last layer that is not frozen."""
    hidden = np.maximum(features @ model["input.weight"] + model["input.bias"], 0)
    inner = []
    for at in range(blocks):
        up = np.maximum(hidden @ model[f"block{at:02}.up.weight"] + model[f"block{at:02}.up.bias"], 0)
        inner.append((hidden, up))
        hidden = hidden + up @ model[f"block{at:02}.down.weight"] + model[f"block{at:02}.down.bias"]
    logits = hidden @ model["head.weight"] + model["head.bias"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    slope = odds / odds.sum(axis=1, keepdims=True)
    slope[np.arange(len(labels)), labels] -= 1
    slope /= len(labels)
    yield from _layer("head", hidden, slope)
    slope = slope @ model["head.weight"].T
    for at in range(blocks - 1, frozen - 1, -1):
        below, up = inner[at]
        yield from _layer(f"block{at:02}.down", up, slope)
        through = (slope @ model[f"block{at:02}.down.weight"].T) * (up > 0)
        yield from _layer(f"block{at:02}.up", below, through)
        slope = slope + through @ model[f"block{at:02}.up.weight"].T
    if not frozen:
        first = inner[0][0] if inner else hidden
        yield from _layer("input", features, slope * (first > 0))


def _layer(name: str, below: Array, slope: Array) -> Iterator[tuple[str, Array]]:
    yield f"{name}.weight", below.T @ slope
    yield f"{name}.bias", slope.sum(axis=0)


def main() -> None:
    """Make the checkpoints and print what they are like."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    for scenario in SCENARIOS:
        print(describe(workload(asked.cache, SMALL if asked.small else REPORTED, scenario)))


def describe(made: Workload) -> str:
    """Say in one line how far the rounds move the weights and what entropy their differences have."""
    moved = relative_updates(made.rounds)
    return (
        f"{made.scenario.name:6} {len(made.rounds)} checkpoints of {made.raw_bytes / 1e6:.1f} MB; a round moves a "
        f"weight matrix by {min(moved):.1e} / {np.median(moved):.1e} / {max(moved):.1e} of its norm (min/median/max); "
        f"entropy of the differences {difference_entropy(made.rounds):.3f} of raw, "
        f"to a keyframe every 8 rounds {difference_entropy(made.rounds, 8):.3f}"
    )


if __name__ == "__main__":
    main()
