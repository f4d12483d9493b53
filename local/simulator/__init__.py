"""A GitHub of its own: GraphQL over real or generated pull requests, with GitHub's price, limits and failures."""

from local.simulator.data import Repository, generate, load
from local.simulator.failures import PARTIAL, PASSING, Failure
from local.simulator.server import Simulator
from local.simulator.tokens import App
from local.simulator.validation import Validation

__all__ = ["PARTIAL", "PASSING", "App", "Failure", "Repository", "Simulator", "Validation", "generate", "load"]
