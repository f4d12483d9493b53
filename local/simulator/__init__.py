"""A GitHub of its own: GraphQL over real or generated pull requests, with GitHub's price, limits and failures."""

from local.simulator.data import Repository, generate, load
from local.simulator.server import Simulator

__all__ = ["Repository", "Simulator", "generate", "load"]
