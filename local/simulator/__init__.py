"""A GitHub of its own: GraphQL over real or generated pull requests, with GitHub's price, limits and failures."""

from local.simulator.data import Repository, generate, load
from local.simulator.failures import LASTING, PARTIAL, PASSING, REWORDED, Failure
from local.simulator.server import Simulator
from local.simulator.tokens import App
from local.simulator.validation import Validation

__all__ = [
    "LASTING",
    "PARTIAL",
    "PASSING",
    "REWORDED",
    "App",
    "Failure",
    "Repository",
    "Simulator",
    "Validation",
    "generate",
    "load",
]
