"""One optimizer per player: what `compile` takes becomes theirs; `model.optimizer` shows all of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tf_gan_zoo.config import closest
from tf_gan_zoo.schedules import Stretched

Optimizer = keras.optimizers.Optimizer
_Scaled = keras.optimizers.LossScaleOptimizer


# -------------------------------------------------------------------- what compile() takes


def by_player(given: Any, players: Sequence[str]) -> dict[str, Optimizer]:
    """Player -> optimizer, for the players that `given` names; all of them where it names none.

    Args:
        given: None, an optimizer, a name such as "adam", a Keras config, or a mapping of players to these.
        players: the model's players.

    Raises:
        ValueError: for a player or an optimizer that does not exist, or one object for several players.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping) and "class_name" not in given:
        _check_players(given, players)
        results = {p: _optimizer(value, p) for p, value in given.items() if value is not None}
        _check_distinct(results)
        return results
    first = _optimizer(given, "all players")
    if len(players) == 1:
        return {players[0]: first}
    if first.built:
        raise ValueError(
            f"this {type(first).__name__} is built for the variables of a model already, and the players "
            f"{', '.join(players)} need one each. Pass a new one, or {_example(players)}."
        )
    return {player: copied(first) for player in players}


def copied(optimizer: Optimizer, **changes: Any) -> Optimizer:
    """A new optimizer with the same settings, apart from `changes`, and no moments."""
    return type(optimizer).from_config({**optimizer.get_config(), **changes})


def prepared(optimizer: Optimizer, precision: str, accumulation_steps: int) -> Optimizer:
    """An optimizer as a config needs it: its schedule counted in training steps, its loss scaled."""
    if accumulation_steps > 1:
        optimizer = _for_accumulation(optimizer, accumulation_steps)
    if precision == "mixed_float16" and not isinstance(optimizer, _Scaled):
        optimizer = _Scaled(optimizer)
    return optimizer


def same_settings(a: Optimizer, b: Optimizer) -> bool:
    """Whether two optimizers have one class and one config, schedules included; names do not count."""
    return type(a) is type(b) and _settings(a) == _settings(b)


def _settings(optimizer: Optimizer) -> dict[str, Any]:
    config = keras.saving.serialize_keras_object(optimizer)["config"]
    if isinstance(optimizer, _Scaled):
        config["inner_optimizer"] = _settings(optimizer.inner_optimizer)
    return {name: value for name, value in config.items() if name != "name"}


def schedule_of(optimizer: Optimizer) -> Any:
    """What an optimizer's learning rate follows: a schedule, or the variable that holds it."""
    inner = optimizer.inner_optimizer if isinstance(optimizer, _Scaled) else optimizer
    return inner._learning_rate


def build(optimizer: Optimizer, player: str, variables: Sequence[keras.Variable]) -> None:
    """Builds a player's optimizer, so that a resumed run finds every slot.

    Raises:
        ValueError: if it is built for other variables, whose moments it holds, or keeps averages.
    """
    inner = optimizer.inner_optimizer if isinstance(optimizer, _Scaled) else optimizer
    if inner.use_ema:
        raise ValueError(
            f"use_ema=True in the optimizer of player {player!r}: Keras uses such averages in models with "
            "one optimizer only. Leave it out; a model keeps averages where its `ema_decays` says so."
        )
    known = [id(v) for v in getattr(inner, "_trainable_variables", ())]
    if inner.built and known != [id(v) for v in variables]:
        raise ValueError(
            f"the optimizer of player {player!r} is built for other variables than the player has now: "
            "pass a new one."
        )
    optimizer.build(variables)


def check_arguments(given: Mapping[str, Any], players: Sequence[str]) -> None:
    """Refuses arguments of Keras's `compile` that could have no effect.

    Raises:
        TypeError: for one that is not None.
    """
    without_effect = {name: value for name, value in given.items() if value is not None}
    without_effect.pop("auto_scale_loss", None)  # each player's loss is scaled where precision needs it
    for name in without_effect:
        raise TypeError(
            f"compile() takes no {name}=: a model's losses and scalars are those of its paper, weighed by "
            f"fields of its config. It takes optimizers of the players {', '.join(players)}, "
            "steps_per_execution=, jit_compile= and run_eagerly=; models are measured by tf_gan_zoo.evaluate."
        )


def _check_players(given: Mapping[str, Any], players: Sequence[str]) -> None:
    for name in given:
        if name not in players:
            known = ", ".join(players)
            raise ValueError(f"no player named {name!r}.{closest(name, players)} Players: {known}.")


def _check_distinct(optimizers: Mapping[str, Optimizer]) -> None:
    owners: dict[int, str] = {}
    for player, optimizer in optimizers.items():
        other = owners.setdefault(id(optimizer), player)
        if other != player:
            raise ValueError(
                f"one {type(optimizer).__name__} is given to the players {other} and {player}, but an "
                f"optimizer holds the moments of one player only. Make one for each: "
                f"{_example([other, player])}."
            )


def _optimizer(given: Any, owner: str) -> Optimizer:
    try:
        return keras.optimizers.get(dict(given) if isinstance(given, Mapping) else given)
    except (TypeError, ValueError):
        raise ValueError(
            f"the optimizer of {owner}: expected a keras.optimizers.Optimizer, a name such as 'adam' or a "
            f"config of Keras, got {given!r}."
        ) from None


def _example(players: Sequence[str]) -> str:
    items = ", ".join(f"{player!r}: keras.optimizers.Adam(1e-4)" for player in players)
    return f"compile({{{items}}})"


def _for_accumulation(optimizer: Optimizer, steps: int) -> Optimizer:
    """The same optimizer, its learning-rate schedule counted in batches though it updates less often."""
    if isinstance(optimizer, _Scaled):
        inner = _for_accumulation(optimizer.inner_optimizer, steps)
        if inner is optimizer.inner_optimizer:
            return optimizer
        return copied(optimizer, inner_optimizer=keras.saving.serialize_keras_object(inner))
    rate = optimizer._learning_rate
    follows = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    if not follows or isinstance(rate, Stretched):  # one from a file is stretched already
        return optimizer
    return copied(optimizer, learning_rate=keras.saving.serialize_keras_object(Stretched(rate, steps)))


# -------------------------------------------------------------------- model.optimizer


class PlayerOptimizers:
    """What `model.optimizer` is: the optimizers of all players, with one learning rate to read and to set.

    Keras's callbacks (`LearningRateScheduler`, `ReduceLROnPlateau`, `TensorBoard`) go through `optimizers`:
    each player's rate changes by itself and is logged as learning_rate_PLAYER.

    Args:
        optimizers: player -> optimizer.
        iterations: the model's training steps.
    """

    built = True

    def __init__(self, optimizers: Mapping[str, Optimizer], iterations: keras.Variable) -> None:
        self._optimizers, self.iterations = dict(optimizers), iterations

    @property
    def optimizers(self) -> list[PlayerOptimizer]:
        """The players' optimizers, each named after its player."""
        return [PlayerOptimizer(player, optimizer) for player, optimizer in self._optimizers.items()]

    @property
    def learning_rates(self) -> dict[str, float]:
        """Player -> its learning rate now."""
        return {o.name: float(keras.ops.convert_to_numpy(o.learning_rate)) for o in self.optimizers}

    @property
    def learning_rate(self) -> LearningRate:
        """The first player's rate now; a value that is set becomes that of all players.

        Raises:
            TypeError: if it is set while a player's rate follows a schedule; none is changed then.
        """
        return LearningRate(self)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        for optimizer in self.optimizers:
            optimizer.check_settable()
        before = self.learning_rates
        if len(set(before.values())) > 1:
            warnings.warn(
                f"the players had learning rates of their own, {before}, and get the same now. To set one: "
                f"model.{next(iter(before))}_optimizer.learning_rate = ...", stacklevel=2,
            )  # fmt: skip
        for optimizer in self.optimizers:
            optimizer.learning_rate = value

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of all optimizers, player by player."""
        return [v for optimizer in self._optimizers.values() for v in optimizer.variables]


class PlayerOptimizer:
    """One player's optimizer under the player's name; all else is the optimizer's own."""

    def __init__(self, player: str, optimizer: Optimizer) -> None:
        self.name, self._optimizer = player, optimizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)

    @property
    def learning_rate(self) -> Any:
        return self._optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.check_settable()
        self._optimizer.learning_rate = value

    def check_settable(self) -> None:
        """Raises TypeError, as Keras's optimizers do, if the rate follows a schedule."""
        inner = self._optimizer.inner_optimizer if isinstance(self._optimizer, _Scaled) else self._optimizer
        if not isinstance(inner._learning_rate, keras.Variable):
            schedule = type(inner._learning_rate).__name__
            raise TypeError(
                f"the learning rate of player {self.name!r} follows {schedule}, so it cannot be set. Give "
                f"the player an optimizer whose rate is a number first: {_example([self.name])}."
            )


class LearningRate(np.lib.mixins.NDArrayOperatorsMixin):
    """A number that stands for the learning rates of all players: reads the first one, sets all."""

    def __init__(self, optimizers: PlayerOptimizers) -> None:
        self._optimizers = optimizers

    def numpy(self) -> np.float32:
        """The first player's rate now."""
        return np.float32(next(iter(self._optimizers.learning_rates.values())))

    def assign(self, value: Any) -> None:
        """Sets the rate of every player."""
        self._optimizers.learning_rate = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.numpy(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [x.numpy() if isinstance(x, LearningRate) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __float__(self) -> float:
        return float(self.numpy())

    def __format__(self, how: str) -> str:
        return format(float(self), how)

    def __repr__(self) -> str:
        return f"<learning rates of {self._optimizers.learning_rates}>"
