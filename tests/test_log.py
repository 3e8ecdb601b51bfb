"""What TensorBoard shows of a run: every tag over frames, rewards and lengths also over epochs and seconds."""
from __future__ import annotations

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from happo_gpu.log import Logger

FIRST = {"epoch": 3, "max_epochs": 7, "frames": 1009, "train_seconds": 5.9, "Episode/return": -2.5, "Episode/length": 17.0, "losses/a_loss": 0.25}
SECOND = {**FIRST, "epoch": 5, "frames": 2003, "train_seconds": 11.2, "losses/a_loss": float("nan")}


def points(board: EventAccumulator, tag: str):
    return [(event.step, event.value) for event in board.Scalars(tag)]


def test_tensorboard_shows_each_tag_where_it_belongs(tmp_path):
    logger = Logger(tmp_path, [])
    logger.iteration(FIRST)
    logger.iteration(SECOND)
    logger.evaluation({"frames": 2003, "epoch": 5, "success_rate": 0.5, "train_seconds": 11.2, "wall_time": 1.0})
    logger.close()
    board = EventAccumulator(str(tmp_path / "summaries")).Reload()
    assert points(board, "rewards/step") == [(1009, -2.5), (2003, -2.5)] and points(board, "rewards/iter") == [(3, -2.5), (5, -2.5)]
    assert points(board, "rewards/time") == [(5, -2.5), (11, -2.5)] and points(board, "episode_lengths/iter")[0] == (3, 17.0)
    assert points(board, "losses/a_loss")[0] == (1009, 0.25) and points(board, "losses/a_loss")[1][1] != 0.25
    assert points(board, "evaluation/success_rate") == [(2003, 0.5)]
    assert sorted(board.Tags()["scalars"]) == ["Episode/length", "Episode/return", "episode_lengths/iter", "episode_lengths/step", "episode_lengths/time",
                                               "evaluation/success_rate", "losses/a_loss", "rewards/iter", "rewards/step", "rewards/time"]
