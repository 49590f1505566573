from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fedloom.errors import LearnerError
from fedloom.learners.guard import GuardedLearner
from fedloom.learners.learner import Examples, Training
from fedloom.learners.linear import Linear
from fedloom.learners.mlp import Mlp
from fedloom.values import generator

CANARY = "patient-4711"
ROWS = Examples(np.ones((4, 2)), np.array([0, 1, 0, 1]))
START = {"weights": np.zeros(2, np.float32), "bias": np.zeros(1, np.float32)}


@dataclass
class Scripted:
    """Does the same whatever it is asked: returns `answer`, after `deed` was done to its arguments."""

    answer: Any = None
    deed: Any = None
    task: Any = "binary"
    supports_proximal: Any = True

    def _act(self, *arguments):
        if self.deed:
            self.deed(*arguments)
        return self.answer

    initial_parameters = fit = predict = loss = _act


def guarded(answer=None, deed=None, **more) -> GuardedLearner:
    return GuardedLearner("learner.py:Mine", Scripted(answer, deed, **more))


def told(method: str, learner: GuardedLearner) -> str:
    """What the guard says when a method is called."""
    calls = {
        "initial_parameters": lambda: learner.initial_parameters(2, 1, generator(0)),
        "fit": lambda: learner.fit(START, ROWS, Training(), generator(0)),
        "predict": lambda: learner.predict(START, ROWS.features),
        "loss": lambda: learner.loss(START, ROWS),
    }
    with pytest.raises(LearnerError) as caught:
        calls[method]()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


def test_a_good_learner_passes_through():
    """What keeps the contract is returned as it is."""
    plain, learner = Linear(), GuardedLearner("linear", Linear())
    start = learner.initial_parameters(2, 1, generator(0))
    model = learner.fit(start, ROWS, Training(), generator(0))
    direct = plain.fit(start, ROWS, Training(), generator(0))
    assert all(np.array_equal(model[name], direct[name]) for name in direct)
    assert learner.loss(model, ROWS) == plain.loss(direct, ROWS)
    assert (learner.task, learner.supports_proximal) == ("binary", True)


def test_nan_names_learner_tensor_and_method():
    """A model that diverged is stopped at the site, with what to do."""
    message = told("fit", guarded({**START, "weights": np.array([np.nan, 1], np.float32)}))
    what, todo = "returned NaN in 'weights' from fit", "lower the learning rate or check the loss"
    assert message == f"learner 'learner.py:Mine' {what}: {todo}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({**START, "weights": np.array([np.inf, 1], np.float32)}, "returned infinity in 'weights'"),
        ({**START, "weights": np.zeros(2)}, "returned 'weights' as float64 from fit: expected float32"),
        (
            {**START, "weights": np.zeros(3, np.float32)},
            "returned 'weights' of shape (3,) from fit: expected (2,)",
        ),
        ({**START, "weights": [0.0, 0.0]}, "returned list for 'weights' from fit"),
        ({"bias": START["bias"]}, "returned no 'weights' from fit"),
        ({**START, CANARY: START["bias"]}, "returned tensors it was not given (1) from fit"),
        (None, "returned NoneType from fit"),
    ],
)
def test_fit_must_return_what_it_was_given(answer, words):
    """Names, shapes and dtypes never change during a run; a name made of data is counted, not shown."""
    message = told("fit", guarded(answer))
    assert words in message
    assert CANARY not in message


@pytest.mark.parametrize(
    ("task", "answer", "words"),
    [
        ("binary", np.full((4, 1), 0.5), "shape (4, 1) from predict: expected (4,) for binary"),
        ("binary", np.full(3, 0.5), "shape (3,) from predict: expected (4,)"),
        ("binary", np.full(4, 1.5), "outside [0, 1] from predict"),
        ("binary", np.full(4, np.nan), "NaN in the predictions"),
        ("binary", np.full(4, 0.5, np.float32), "as float32 from predict: expected float64"),
        ("binary", [0.5] * 4, "returned list from predict"),
        ("multiclass", np.full(4, 0.5), "expected (4, classes) for multiclass"),
        ("multiclass", np.full((4, 1), 0.5), "expected (4, classes) for multiclass"),
        ("multiclass", np.full((3, 2), 0.5), "expected (4, classes) for multiclass"),
        ("regression", np.full(4, -np.inf), "infinity in the predictions"),
    ],
)
def test_predictions_must_fit_the_task(task, answer, words):
    """Predictions are float64, one a row, finite, and probabilities where the task says so."""
    assert words in told("predict", guarded(answer, task=task))


@pytest.mark.parametrize(
    ("answer", "words"), [(np.float64("nan"), "NaN in the loss"), ("low", "returned str from loss")]
)
def test_loss_must_be_a_finite_number(answer, words):
    """A loss is one finite number."""
    assert words in told("loss", guarded(answer))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "returned dict from initial_parameters: return a dictionary of named arrays"),
        ({"w": [1.0]}, "returned list for 'w'"),
        ({"w": np.array(["a"])}, "returned str32 for 'w' from initial_parameters: use an array of BOOL"),
        ({"w": np.array([np.nan])}, "returned NaN in 'w'"),
    ],
)
def test_initial_parameters_must_be_storable(answer, words):
    """The model of round 0 has named, finite arrays of types that can be stored and sent."""
    assert words in told("initial_parameters", guarded(answer))


@pytest.mark.parametrize("method", ["initial_parameters", "fit", "predict", "loss"])
def test_text_of_an_exception_stays_at_the_site(method):
    """Of an exception only its type and its place leave: its text can be a value of the data (the canary)."""

    def fail(*_):
        raise KeyError(CANARY)

    message = told(method, guarded(deed=fail))
    place = f"test_guard.py:{fail.__code__.co_firstlineno + 1}"
    assert message.startswith(f"learner 'learner.py:Mine' raised KeyError in {method} at {place}: ")
    assert CANARY not in message


def test_our_own_exceptions_raised_by_a_user_stay_too():
    """A LearnerError out of a user's file is a user's exception like any other."""

    def fail(*_):
        raise LearnerError(CANARY)

    assert CANARY not in told("fit", guarded(deed=fail))


def test_what_our_own_learners_say_is_passed_on():
    """A LearnerError written by us holds no data, and says what to do."""

    class Refuses(Linear):
        def fit(self, *_):
            return GuardedLearner("inner", Scripted(None)).loss(START, ROWS)

    with pytest.raises(LearnerError, match="learner 'inner' returned NoneType from loss"):
        GuardedLearner("outer", Refuses()).fit(START, ROWS, Training(), generator(0))


def test_exit_is_caught():
    """A learner that calls exit() does not take the site with it, nor its message out."""

    def leave(*_):
        raise SystemExit(CANARY)

    assert "raised SystemExit in fit at test_guard.py:" in told("fit", guarded(deed=leave))


def test_place_is_the_user_s_line_not_numpy_s():
    """An exception from within an installed package is located where the user's code called it."""

    def fail(*_):
        np.linalg.inv(np.zeros((2, 3)))

    assert f"LinAlgError in fit at test_guard.py:{fail.__code__.co_firstlineno + 1}" in told("fit", guarded(deed=fail))


def test_place_of_a_call_that_never_began():
    """A method that takes other arguments is told so."""

    class Short(Linear):
        def loss(self, parameters):
            return 0.0

    with pytest.raises(LearnerError, match=r"TypeError in loss at the call itself: it must take what Learner.loss"):
        GuardedLearner("short", Short()).loss(START, ROWS)


def test_place_within_our_own_learners():
    """Where no line of a user is involved, the innermost line of the learner is told."""
    with pytest.raises(LearnerError, match=r"raised KeyError in loss at mlp.py:\d+"):
        GuardedLearner("mlp", Mlp()).loss({**START, "layer0.weights": np.zeros((2, 1))}, ROWS)


@pytest.mark.parametrize("method", ["fit", "predict", "loss"])
def test_writing_to_the_parameters_is_refused(method):
    """Arguments are read-only."""

    def write(parameters, *_):
        parameters["weights"][0] = 1

    assert "ValueError" in told(method, guarded(deed=write))
    assert "copy its arguments before writing" in told(method, guarded(deed=write))


def test_writing_past_the_lock_is_noticed():
    """What is written by code that ignores read-only flags, as torch and C do, is found afterwards."""
    rows = Examples(np.ones((4, 2)), np.zeros(4))

    def write(parameters, examples, *_):
        examples.features.base[0, 0] = 5

    with pytest.raises(LearnerError, match="changed 'features' in fit: copy before writing"):
        guarded(START, write).fit(START, rows, Training(), generator(0))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"task": "clustering"}, "set it to one of binary"),
        ({"supports_proximal": None}, "set it to True or False"),
    ],
)
def test_a_learner_must_say_what_it_is(facts, words):
    """Task and FedProx support are known before anything runs."""
    with pytest.raises(LearnerError, match=words):
        guarded(**facts)
