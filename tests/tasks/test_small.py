"""Spread, Harvest, Recall and Crew: rewards by hand, bounds by brute force, masks, deaths, memory, resume."""
from __future__ import annotations

import functools
import itertools

import pytest
import torch

from conftest import CPU, compose_config
from happo_gpu import build
from happo_gpu.evaluate import first_episodes
from happo_gpu.tasks import crew, harvest, spread
from happo_gpu.types import discrete, split_actions, split_choices, split_obs

TASKS = ("Spread", "Harvest", "Recall", "Crew")
composed = functools.lru_cache(maxsize=None)(compose_config)  # composing takes longer than most tests here


def small(name, *overrides, num_envs=7):
    task = build.build_task(composed(f"task={name}", *overrides), num_envs, CPU, "eager")
    task.reset()
    return task


def random_actions(task):
    """White noise, and any of the actions that are available."""
    actions, masks = [], iter(())
    if task.available_buf is not None:
        masks = iter(split_choices(task.available_buf, task.agents))
    for agent in task.agents:
        mask = next(masks, None)
        if agent.action_space.continuous:
            actions.append(torch.randn(task.num_envs, agent.num_actions))
        for choices in agent.action_space.choices:
            draw = torch.rand(task.num_envs, choices)
            actions.append((draw if mask is None else draw * mask).argmax(-1, keepdim=True).float())
    return torch.cat(actions, -1)


# -- what all four promise ----------------------------------------------------------------------


@pytest.mark.parametrize("name, obs, choices, num_states", [
    ("Spread", [7, 4, 2], [(), (), ()], 10),
    ("Harvest", [12, 12, 12], [(5,), (4,), (3,)], 15),
    ("Recall", [4, 3], [(3,), (2,)], 6),
    ("Crew", [3, 2, 4], [(), (4,), (3, 2)], 6),
])
def test_agents_are_unequal_and_the_buffers_have_their_sizes(name, obs, choices, num_states):
    task = small(name)
    assert [agent.num_obs for agent in task.agents] == obs
    assert [agent.action_space.choices for agent in task.agents] == choices
    assert len({(agent.num_obs, agent.action_space) for agent in task.agents}) == len(obs)
    assert task.obs_buf.shape == (7, sum(obs)) and task.states_buf.shape[-1] == num_states
    assert task.scripted_actions().shape == (7, task.num_actions)


@pytest.mark.parametrize("name, factor", [("Spread", 5.0), ("Harvest", 1.5), ("Recall", 4.0), ("Crew", 20.0)])
def test_scripted_beats_random_by_a_wide_margin(name, factor):
    task = small(name, num_envs=499)
    scripted = first_episodes(task, task.scripted_actions)["score"].mean()
    assert 0.3 < scripted <= 1.0 and scripted > factor * first_episodes(task, lambda: random_actions(task))["score"].mean()


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("team", [True, False])
def test_reward_lies_between_zero_and_one_and_is_the_same_for_all(name, team):
    task = small(name, f"task.env.teamReward={team}", num_envs=31)
    earned = torch.zeros(31)
    for step in range(task.max_episode_length):
        actions = (random_actions, lambda task: task.scripted_actions(), lambda task: 9.0 * torch.randn(31, task.num_actions))
        _, reward, _, extras = task.step(actions[step % 3](task))
        assert reward.shape == (31, 1 if team else len(task.agents))
        assert bool((reward == reward[:, :1]).all()) and 0.0 <= reward.min() and reward.max() <= 1.0
        earned += reward[:, 0]
    assert extras["reset"].all() and earned.max() > 0.0
    torch.testing.assert_close(extras["episode"]["return"], earned)
    share = 1 if name == "Recall" else task.max_episode_length  # Recall rewards one step of an episode
    torch.testing.assert_close(extras["episode"]["score"], earned / share)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("age", [0, 3])
def test_reset_touches_only_masked_environments(name, age):
    task = small(name, num_envs=11)
    for _ in range(age):
        task.step(random_actions(task))
    before = {key: value.clone() for key, value in task._persistent().items()}
    mask = torch.tensor([n in (2, 3, 5, 7) for n in range(11)])
    task._reset_bookkeeping(mask)
    task.reset_where(mask)
    for key, value in task._persistent().items():
        assert torch.equal(value[~mask], before[key][~mask]), key
    drawn = {"Spread": "landmark", "Harvest": "worth", "Recall": "cue", "Crew": "readings"}[name]
    assert not torch.equal(getattr(task, drawn)[mask], before[drawn][mask])


@pytest.mark.parametrize("name", TASKS)
def test_a_restored_task_continues_bit_for_bit_in_the_same_buffers(name):
    def play(task):
        torch.manual_seed(29)
        seen = []
        for _ in range(11):
            _, reward, reset, extras = task.step(random_actions(task))
            seen += [value.clone() for value in (*task._saved().values(), reward, reset, extras["final_states"])]
            seen += list(extras["episode"].values())
        return seen

    first, second = small(name, num_envs=23), small(name, num_envs=23)
    for _ in range(6):
        first.step(random_actions(first))
    addresses = [value.data_ptr() for value in second._saved().values()]
    second.load_state_dict(first.state_dict())
    for one, other in zip(play(first), play(second)):
        assert torch.equal(one, other)
    assert addresses == [value.data_ptr() for value in second._saved().values()]


# -- Spread -------------------------------------------------------------------------------------


def test_spread_pays_half_the_mean_and_half_the_worst():
    offsets = torch.tensor([[0.0, 0.0, 0.18, -0.24, 0.6]])  # distances 0, 0.3 and 0.6
    close = spread.closeness(offsets)
    torch.testing.assert_close(close, torch.tensor([[1.0, 0.367879, 0.135335]]))
    assert spread.team_reward(close).item() == pytest.approx(0.5 * 0.501072 + 0.5 * 0.135335, abs=1e-5)


def test_spread_s_scripted_policy_is_as_near_as_anything_can_be():
    task = small("Spread", num_envs=13)
    start = (task.landmark - task.position).abs()
    for step in range(1, 21):
        task.step(task.scripted_actions())
        left = (start - step * torch.tensor(spread.SPEED)).clamp(min=0.0)  # no action covers more along any axis
        torch.testing.assert_close((task.landmark - task.position).abs(), left, atol=1e-5, rtol=0)


def test_spread_s_scripted_action_is_the_best_of_a_grid():
    grid = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 0.5, 1.0])] * 5)
    task = small("Spread", num_envs=len(grid) + 1)
    for place in (task.position, task.landmark):
        place.copy_(place[5].clone().expand_as(place))
    reward = task.step(torch.cat((grid, task.scripted_actions()[:1])))[1][:, 0]
    assert reward[-1] >= reward.max() and reward[-1] > reward.median()


def test_full_speed_is_the_limit_in_spread():
    task = small("Spread")
    task.position.zero_()
    task.step(torch.full((7, 5), -9.0))
    torch.testing.assert_close(task.position, -torch.tensor(spread.SPEED).expand(7, 5))


def test_each_mover_of_spread_sees_where_it_is_and_where_it_must_go():
    task = small("Spread")
    task.position[4] = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    task.landmark[4] = torch.tensor([0.2, 0.4, 0.6, 0.8, 0.1])
    fast, slow, rail = (seen[4] for seen in split_obs(task.compute_observations(), task.agents))
    torch.testing.assert_close(fast, torch.tensor([0.1, 0.2, 0.1, 0.2, 0.3, 0.4, 0.5]))
    torch.testing.assert_close(slow, torch.tensor([0.3, 0.4, 0.3, 0.4]))
    torch.testing.assert_close(rail, torch.tensor([0.5, -0.4]))


# -- Harvest ------------------------------------------------------------------------------------


def placed(living=(1.0, 1.0, 1.0), closed=()):
    """Harvest with known worths in environment 3."""
    task = small("Harvest")
    task.worth[3] = torch.tensor([0.1, 0.2, 0.4, 0.8, 0.05])
    task.living[3] = torch.tensor(living)
    task.open[3] = True
    for choice in closed:
        task.open[3, choice] = False
    return task


@pytest.mark.parametrize("state, picks, expected", [
    ({}, [3.0, 2.0, 1.0], 0.8 + 0.4 + 0.2),
    ({}, [3.0, 3.0, 1.0], 0.8 + 0.2),                                      # two at one site count once
    ({"living": (0.0, 1.0, 1.0)}, [3.0, 2.0, 1.0], 0.4 + 0.2),             # a dead agent takes nothing
    ({"living": (0.0, 1.0, 1.0)}, [3.0, 3.0, 1.0], 0.8 + 0.2),             # ... and is in nobody's way
    ({"closed": (5 + 2,)}, [3.0, 2.0, 1.0], 0.8 + 0.2),                    # middle's third choice is closed
    ({"living": (0.0, 0.0, 0.0)}, [3.0, 2.0, 1.0], 0.0),
])
def test_harvest_pays_for_distinct_sites_of_the_living(state, picks, expected):
    task = placed(**state)
    actions = torch.zeros(7, 3)
    actions[3] = torch.tensor(picks)
    torch.testing.assert_close(task.step(actions)[1][3], torch.full((3,), expected / 3))


def test_harvest_s_scripted_action_is_the_best_available_joint_action():
    task = small("Harvest", num_envs=61)
    task.living.copy_(torch.rand(61, 3) < 0.7)
    assert 0.0 < task.living.sum() < 3 * 61
    chosen = task.scripted_actions()
    for n in range(61):
        menus = split_choices(task.open[n], task.agents)
        scores = {}
        for joint in itertools.product(range(5), range(4), range(3)):
            if all(menu[pick] for menu, pick in zip(menus, joint)):
                sites = {pick for pick, lives in zip(joint, task.living[n]) if lives}
                scores[joint] = sum(float(task.worth[n, site]) for site in sites)
        assert scores[tuple(int(pick) for pick in chosen[n])] == pytest.approx(max(scores.values()), abs=1e-6)
    expected = harvest.harvested(task._chosen(chosen) & task._able(), task.worth)
    torch.testing.assert_close(task.step(chosen)[1][:, 0], expected)


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_masks_always_leave_an_action(probability, monkeypatch):
    monkeypatch.setattr(harvest, "OPEN", probability)
    task = small("Harvest", num_envs=211)
    for _ in range(3):
        counts = torch.stack([menu.sum(-1) for menu in split_choices(task.available_buf, task.agents)])
        assert counts.min() == 1 and (counts.max() == 1) == (probability == 0.0)
        before = task.available_buf.clone()
        task.step(random_actions(task))
        assert not torch.equal(task.available_buf, before)


def test_dead_agents_stay_dead_until_the_episode_ends(monkeypatch):
    monkeypatch.setattr(harvest, "BREAKS", 0.2)
    task = small("Harvest", "task.env.episodeLength=5", num_envs=53)
    before = task.active_buf.clone()
    assert bool((before == 1.0).all())
    for _ in range(4):
        task.step(random_actions(task))
        assert bool((task.active_buf <= before).all()) and task.active_buf.sum() < before.sum()
        before = task.active_buf.clone()
    assert set(before.unique().tolist()) == {0.0, 1.0}
    task.step(random_actions(task))
    assert bool((task.active_buf == 1.0).all())


def test_everyone_in_harvest_sees_what_each_choice_of_each_agent_could_gain():
    task = placed(living=(1.0, 1.0, 0.0), closed=(5 + 2,))
    expected = torch.tensor([0.1, 0.2, 0.4, 0.8, 0.05, 0.1, 0.2, 0.0, 0.8, 0.0, 0.0, 0.0])
    for seen in split_obs(task.compute_observations(), task.agents):
        torch.testing.assert_close(seen[3], expected)


def test_harvest_s_critic_states_say_whose_they_are():
    each, team = small("Harvest"), small("Harvest", "task.env.teamReward=true")
    assert each.states_buf.shape == each.final_states.shape == (7, 3, 15) and team.states_buf.shape == (7, 12)
    assert torch.equal(each.states_buf[..., 12:], torch.eye(3).expand(7, 3, 3))
    assert torch.equal(each.states_buf[..., :12], each._gains().unsqueeze(1).expand(7, 3, 12))


# -- Recall -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stagger", [False, True])
def test_a_cue_is_visible_in_the_first_observation_of_an_episode_only(stagger):
    task = small("Recall", num_envs=47)
    task.reset(stagger=stagger)
    assert (len(task.progress_buf.unique()) > 1) == stagger
    for _ in range(2 * task.max_episode_length):
        colour, side = split_obs(task.obs_buf, task.agents)
        first = task.reset_buf.float()  # true where this observation begins an episode
        assert torch.equal(colour[:, :3].argmax(-1) * first, task.cue[:, 0] * first)
        assert torch.equal(side[:, :2].argmax(-1) * first, task.cue[:, 1] * first)
        assert torch.equal(colour[:, :3].sum(-1), first) and torch.equal(side[:, :2].sum(-1), first)
        assert torch.equal(task.states_buf[:, :5].sum(-1), torch.full((47,), 2.0))  # the critic always knows
        task.step(random_actions(task))


def test_recall_pays_once_and_only_if_both_are_right_at_the_end():
    task = small("Recall")
    right = task.scripted_actions()
    for _ in range(task.max_episode_length - 1):
        _, reward, reset, _ = task.step(right)
        assert not reward.any() and not reset.any()
    answer = right.clone()
    answer[2, 0] = (right[2, 0] + 1) % 3
    answer[5, 1] = 1 - right[5, 1]
    _, reward, reset, extras = task.step(answer)
    assert reward[:, 0].tolist() == [float(n not in (2, 5)) for n in range(7)]
    assert reset.all() and not extras["time_outs"].any()  # the answer ends the episode: nothing to bootstrap from


def test_all_kinds_of_cues_come_equally_often():
    task = small("Recall", num_envs=2003)
    for agent, (cue, kinds) in enumerate(zip(task.cue.unbind(-1), (3, 2))):
        counts = torch.bincount(cue.long(), minlength=kinds).float()
        assert counts.shape == (kinds,) and (counts / 2003 - 1 / kinds).abs().max() < 0.05, agent


# -- Crew ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("readings, expected", [
    ([0.3, -0.2, 0.5, 0.1, 0.9, 0.8], [0.7, -0.2, 3.0, 2.0, 1.0]),
    ([0.3, -0.2, -0.5, 0.3, 0.9, -0.8], [-0.1, -0.2, 0.0, 1.0, 0.0]),
    ([0.0, 1.0, -0.5, -0.3, -0.9, -0.8], [-0.4, 1.0, 0.0, 0.0, 1.0]),
])
def test_what_is_right_in_crew(readings, expected):
    torch.testing.assert_close(crew.right_actions(torch.tensor([readings]))[0], torch.tensor(expected))


def test_crew_pays_the_product_of_the_matches():
    right = torch.tensor([[0.7, -0.2, 3.0, 2.0, 1.0]]).repeat(4, 1)
    actions = right.clone()
    actions[1, :2] += torch.tensor([0.3, -0.4])  # 0.5 from the point
    actions[2, 3] = 1.0  # wrong power, right polarity
    actions[3, 2] = 0.0  # wrong channel
    expected = torch.tensor([[1.0, 1.0, 1.0], [0.367879, 1.0, 1.0], [1.0, 1.0, 0.5], [1.0, 0.0, 1.0]])
    torch.testing.assert_close(crew.matches(actions, right), expected)
    task = small("Crew", num_envs=4)
    task.readings.copy_(torch.tensor([0.3, -0.2, 0.5, 0.1, 0.9, 0.8]).expand(4, 6))
    torch.testing.assert_close(task.step(actions)[1][:, 0], expected.prod(-1))


def test_crew_s_scripted_action_is_the_only_one_that_earns_all():
    settings = torch.cartesian_prod(torch.arange(4.0), torch.arange(3.0), torch.arange(2.0))
    near = torch.cartesian_prod(torch.tensor([-0.1, 0.0, 0.1]), torch.tensor([-0.1, 0.0, 0.1]))
    joint = torch.cat((near.repeat_interleave(24, 0), settings.repeat(9, 1)), -1)  # (216, U)
    task = small("Crew", num_envs=216)
    task.readings.copy_(task.readings[5].clone().expand(216, 6))
    scripted = task.scripted_actions()
    joint[:, :2] += scripted[:, :2]
    best = (joint == scripted).all(-1)
    reward = task.step(joint)[1][:, 0]
    assert best.sum() == 1 and torch.equal(reward == 1.0, best)


def test_each_of_the_crew_sees_its_own_readings_and_they_change_every_step():
    task = small("Crew")
    task.readings[3] = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    aim, tune, settings = (seen[3].tolist() for seen in split_obs(task.compute_observations(), task.agents))
    assert aim == pytest.approx([0.1, 0.2, 0.6]) and tune == pytest.approx([0.3, 0.6])
    assert settings == pytest.approx([0.4, 0.3, 0.5, 0.6])
    before = task.readings.clone()
    task.step(random_actions(task))
    assert bool((task.readings != before).all()) and task.readings.abs().max() <= 1.0


def test_what_is_right_for_an_agent_of_crew_depends_on_what_it_sees_alone():
    task = small("Crew", num_envs=101)
    before = task.readings.clone()
    seen, right = split_obs(task.obs_buf.clone(), task.agents), split_actions(task.scripted_actions(), task.agents)
    for i, unseen in enumerate(((2, 3, 4), (0, 1, 3, 4), (0, 1))):
        task.readings.copy_(before)
        task.readings[:, list(unseen)] = 2.0 * torch.rand(101, len(unseen)) - 1.0
        assert torch.equal(split_obs(task.compute_observations(), task.agents)[i], seen[i])
        assert torch.equal(split_actions(task.scripted_actions(), task.agents)[i], right[i])
    assert task.agents[2].action_space == discrete(3, 2)
