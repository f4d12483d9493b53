"""A GitHub of its own: GraphQL over real or generated pull requests, with GitHub's price, limits and failures."""

from local.simulator.data import Repository, generate, load
from local.simulator.failures import LASTING, PARTIAL, PASSING, REWORDED, Failure
from local.simulator.server import Simulator
from local.simulator.tokens import App
from local.simulator.validation import Validation
from local.simulator.viewers import Installation

__all__ = [
    "LASTING",
    "PARTIAL",
    "PASSING",
    "REWORDED",
    "App",
    "Failure",
    "Installation",
    "Repository",
    "Simulator",
    "Validation",
    "generate",
    "load",
]
