"""How long training lasts, where learning rates follow it: schedules take the length of the run in `fit`.

A schedule is measured in `Config.total_steps`. On a fresh model that is what `fit(epochs, steps_per_epoch)`
will do; after that it stays, in saved files, too, and a longer run is refused before its first step.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import player_optimizers
from tf_gan_zoo.config import Config

if TYPE_CHECKING:
    from tf_gan_zoo.gan import GAN

#: Far beyond the end of every schedule, where each has its last rate.
_LATER = 2**30


def prepare(model: GAN, epochs: int, steps_per_epoch: int | None) -> None:
    """Makes the schedules of a fresh model as long as the run, and checks that they reach its end otherwise.

    Args:
        model: a compiled model.
        epochs: of the run that is about to begin.
        steps_per_epoch: training steps in each of them; None if that is unknown.

    Raises:
        ValueError: if a learning rate would be 0 before the run ends.
    """
    first = int(model.step.numpy())
    if epochs < 1:
        return
    if first == 0 and steps_per_epoch and model.schedule_is_free:
        total = epochs * steps_per_epoch
        planned = total == model.config.epochs * steps_per_epoch
        follow(model, model.config.replace(
            steps_per_epoch=steps_per_epoch, schedule_steps=None if planned else total
        ))  # fmt: skip
    elif players := _following(model):
        _check_length(model, players, steps_per_epoch and first + epochs * steps_per_epoch)


def check_step(model: GAN) -> None:
    """Checks that schedules have not ended before the next step.

    Raises:
        ValueError: if a learning rate is 0.
    """
    step = int(model.step.numpy())
    if model.config.has_length and step >= model.config.total_steps and (players := _following(model)):
        _check_length(model, players, step + 1)


def follow(model: GAN, config: Config) -> None:
    """Takes another length of training: optimizers made by the config get its schedules and keep their state.

    A model whose optimizers do not depend on the length keeps its config.
    """
    before, after = _made(model, model.config), _made(model, config)
    changed = [p for p in after if not player_optimizers.same_settings(before[p], after[p])]
    if not changed:
        return
    own = [p for p in changed if not _is_made_by_config(model, p, before[p])]
    model.config = config
    with model.distribute_strategy.scope():
        for player in (p for p in changed if p not in own and model.compiled):
            old = model.player_optimizer(player)
            player_optimizers.build(after[player], player, model.player_variables(player))
            setattr(model, f"{player}_optimizer", after[player])
            for new_variable, variable in zip(after[player].variables, old.variables, strict=True):
                new_variable.assign(variable)
    model.train_function = None  # rates are constants in its graph


def adopt(model: GAN, schedule_steps: int, steps_per_epoch: int) -> None:
    """Takes the length that a weights file names (0: none), unless the model's own config names one."""
    if model.schedule_is_free and (schedule_steps or steps_per_epoch):
        follow(model, model.config.replace(
            schedule_steps=schedule_steps or None, steps_per_epoch=steps_per_epoch or None
        ))  # fmt: skip


def _made(model: GAN, config: Config) -> dict[str, keras.optimizers.Optimizer]:
    """New optimizers as `config` makes them."""
    held, model.config = model.config, config
    try:
        with model.distribute_strategy.scope():
            return {
                player: player_optimizers.prepared(
                    model.make_optimizer(player), config.precision, config.accumulation_steps
                )
                for player in model.players
            }
    finally:
        model.config = held


def _is_made_by_config(model: GAN, player: str, made: keras.optimizers.Optimizer) -> bool:
    current = getattr(model, f"{player}_optimizer", None)
    return current is not None and player_optimizers.same_settings(current, made)


def _following(model: GAN) -> list[str]:
    """The players with an optimizer of the config whose learning rate depends on the length of training."""
    c = model.config
    if not c.has_length:
        return []
    now, longer = _made(model, c), _made(model, c.replace(schedule_steps=2 * c.total_steps))
    return [
        player
        for player in now
        if not player_optimizers.same_settings(now[player], longer[player])
        and _is_made_by_config(model, player, now[player])
    ]


def _check_length(model: GAN, players: list[str], last_step: int | None) -> None:
    total = model.config.total_steps
    if last_step is None:
        warnings.warn(
            f"the data do not say how many steps an epoch has, so the learning rates of {model.zoo_name} "
            f"follow a run of {total} steps, from its config. Pass steps_per_epoch= to fit.", stacklevel=4,
        )  # fmt: skip
        return
    if last_step <= total:
        return
    rates = {player: _last_rate(model, player) for player in players}
    text = (
        f"the learning rates of {model.zoo_name} follow a schedule of {total} training steps, but training "
        f"would go on to step {last_step}; after the schedule they stay at {rates}. For training in several "
        f"calls of fit, set the length of all of them first: zoo.get(..., schedule_steps={last_step}), or "
        f"now model.set_schedule_steps({last_step}). Or compile the model with optimizers of your own."
    )
    if min(rates.values()) == 0:
        raise ValueError(text)
    warnings.warn(text, stacklevel=4)


def _last_rate(model: GAN, player: str) -> float:
    schedule = player_optimizers.schedule_of(model.player_optimizer(player))
    return float(np.float32(schedule(tf.constant(_LATER, tf.int64))))


def stored(model: GAN) -> np.ndarray[Any, Any]:
    """What `adopt` takes, for a weights file."""
    return np.array([model.config.schedule_steps or 0, model.config.steps_per_epoch or 0], "int64")
