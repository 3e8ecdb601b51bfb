"""A small environment of the parallel API, whose every number can be told beforehand: a counter for each agent, with its faults on order."""
import gymnasium.spaces as spaces
import numpy as np


class Line:
    """``one`` counts its own steps; ``two`` chooses among three and may never choose what it chose last. No state()."""

    metadata = {"name": "line"}
    possible_agents = ["one", "two"]

    def __init__(self, length, falls, fails, leaves):
        self.length, self.falls, self.fails, self.leaves = length, falls, fails, leaves
        self.agents = []

    def observation_space(self, agent):
        if agent == "one":
            return spaces.Box(-np.inf, np.inf, (2,), np.float32)
        return spaces.Dict({"observation": spaces.Box(-1, 99, (3, 1), np.float32), "action_mask": spaces.Box(0, 1, (3,), np.int8)})

    def action_space(self, agent):
        return spaces.Box(np.float32([-2.0]), np.float32([6.0])) if agent == "one" else spaces.Discrete(3, start=5)

    def reset(self, seed=None, options=None):
        self.agents, self.time, self.last = list(self.possible_agents), 0, None
        self.start = seed % 1000
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.time += 1
        if self.time == self.fails:
            raise ValueError("the line\nsnapped")
        rewards = {"one": float(actions["one"][0]), "two": 10.0 * actions["two"]} if "two" in actions else {"one": float(actions["one"][0])}
        self.last = actions.get("two")
        over, late = self.time == self.falls, self.time == self.length
        terminations = {agent: over or agent == "two" and self.time == self.leaves for agent in self.agents}
        truncations = {agent: late for agent in self.agents}
        seen, infos = self._seen(), {agent: {} for agent in self.agents}
        self.agents = [agent for agent in self.agents if not (terminations[agent] or truncations[agent])]
        return seen, rewards, terminations, truncations, infos

    def _seen(self):
        open_ = np.ones(3, np.int8)
        if self.last is not None:
            open_[self.last - 5] = 0
        seen = {"one": np.float32([self.start, self.time]),
                "two": {"observation": np.full((3, 1), self.time, np.float32), "action_mask": open_}}
        return {agent: seen[agent] for agent in self.agents}

    def close(self):
        pass


def parallel_env(length=7, falls=0, fails=0, leaves=0):
    return Line(length, falls, fails, leaves)
