"""Optimizers that Keras does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_gan_zoo.config import Config
from tf_gan_zoo.schedules import GeometricDecay


@keras.saving.register_keras_serializable("tf_gan_zoo")
class RisingMomentumSGD(keras.optimizers.SGD):
    """Gradient descent whose momentum rises in a straight line, then stays.

    Args:
        learning_rate: number or schedule.
        momentum: at the beginning, above 0.
        final_momentum: at the end.
        first_update: the rise begins after so many updates.
        last_update: and ends after so many.
        **kwargs: of `keras.optimizers.SGD`.

    Raises:
        ValueError: if the momentum is 0 at first, or the rise ends before it begins.
    """

    def __init__(
        self, learning_rate: Any = 0.01, momentum: float = 0.5, final_momentum: float = 0.7,
        first_update: int = 0, last_update: int = 1, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, momentum, **kwargs)
        if not momentum > 0 or not last_update > first_update >= 0:
            raise ValueError(
                "RisingMomentumSGD needs momentum > 0 and last_update > first_update >= 0, "
                f"got {momentum}, {last_update} and {first_update}."
            )
        self.final_momentum = final_momentum
        self.first_update, self.last_update = first_update, last_update

    def momentum_at(self, update: int | tf.Tensor) -> tf.Tensor:
        """The momentum after `update` updates."""
        passed = (tf.cast(update, tf.float32) - self.first_update) / (self.last_update - self.first_update)
        return self.momentum + (self.final_momentum - self.momentum) * tf.clip_by_value(passed, 0.0, 1.0)

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        velocity = self.momentums[self._get_variable_index(variable)]
        momentum = tf.cast(self.momentum_at(self.iterations.value), variable.dtype)
        step = tf.cast(learning_rate, variable.dtype) * tf.cast(gradient, variable.dtype)
        new_velocity = momentum * tf.convert_to_tensor(velocity) - step
        self.assign(velocity, new_velocity)
        self.assign_add(variable, new_velocity)

    def get_config(self) -> dict[str, Any]:
        own = ("final_momentum", "first_update", "last_update")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class OuterEpsilonRMSprop(keras.optimizers.RMSprop):
    """RMSprop with epsilon outside the root: a variable moves by rate * g / (sqrt(v) + epsilon).

    v is the running mean of g^2. Keras's form, g / sqrt(v + 1e-7), holds back gradients below 3e-4; here even
    small ones make whole steps, as in Torch and DeepPy.

    Args:
        learning_rate: number or schedule.
        rho: share of v that is kept in an update.
        epsilon: the smallest number that gradients are divided by.
        **kwargs: of `keras.optimizers.RMSprop`.

    Raises:
        ValueError: for a momentum, or the centered form.
    """

    def __init__(
        self, learning_rate: Any = 1e-3, rho: float = 0.9, epsilon: float = 1e-8, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate, rho=rho, epsilon=epsilon, **kwargs)
        if self.momentum or self.centered:
            raise ValueError("OuterEpsilonRMSprop has no momentum and is not centered: leave both out.")

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        gradient, rate = tf.cast(gradient, variable.dtype), tf.cast(learning_rate, variable.dtype)
        velocity = self._velocities[self._get_variable_index(variable)]
        square = self.rho * tf.convert_to_tensor(velocity) + (1.0 - self.rho) * tf.square(gradient)
        self.assign(velocity, square)
        self.assign_sub(variable, rate * gradient / (tf.sqrt(square) + self.epsilon))


@keras.saving.register_keras_serializable("tf_gan_zoo")
class CoupledDecaySGD(keras.optimizers.SGD):
    """Gradient descent with a weight decay that is part of the gradient, as in Caffe, Torch and TensorFlow 1.

        velocity = momentum * velocity - learning_rate * (gradient + decay * kernel)

    so that in the long run it acts 1 / (1 - momentum) times as strongly as Keras's `weight_decay`, which is
    decoupled from the momentum. Kernels alone decay: weights of at least two axes, no biases, no gains.

    Args:
        learning_rate: number or schedule.
        momentum: 0 for none.
        decay: of half the squared kernels, at least 0.
        **kwargs: of `keras.optimizers.SGD`, without `weight_decay`.

    Raises:
        ValueError: for a negative decay, or both kinds of decay.
    """

    def __init__(
        self, learning_rate: Any = 0.01, momentum: float = 0.0, decay: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate, momentum, **kwargs)
        if decay < 0 or self.weight_decay:
            raise ValueError(
                f"CoupledDecaySGD needs decay >= 0 and no weight_decay, got {decay} and {self.weight_decay}."
            )
        self.decay = decay

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        if len(variable.shape) > 1:
            gradient = tf.cast(gradient, variable.dtype) + self.decay * tf.convert_to_tensor(variable)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class InnerEpsilonAdam(keras.optimizers.Adam):
    """Adam with epsilon inside the root: a variable moves by rate * m / sqrt(v + epsilon).

    m and v are the bias-corrected moments. The usual form, sqrt(v) + epsilon, lets the smallest gradients
    make whole steps; here a gradient well below sqrt(epsilon) makes a step in proportion to its size.

    Args:
        learning_rate: number or schedule.
        epsilon: of the released code of "Improved Techniques for Training GANs".
        **kwargs: of `keras.optimizers.Adam`.

    Raises:
        ValueError: for AMSGrad.
    """

    def __init__(self, learning_rate: Any = 1e-3, epsilon: float = 1e-8, **kwargs: Any) -> None:
        super().__init__(learning_rate, epsilon=epsilon, **kwargs)
        if self.amsgrad:
            raise ValueError("InnerEpsilonAdam has no AMSGrad: leave amsgrad=False.")

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        index, count = self._get_variable_index(variable), tf.cast(self.iterations.value + 1, variable.dtype)
        gradient, rate = tf.cast(gradient, variable.dtype), tf.cast(learning_rate, variable.dtype)
        m, v = self._momentums[index], self._velocities[index]
        new_m = self.beta_1 * tf.convert_to_tensor(m) + (1.0 - self.beta_1) * gradient
        new_v = self.beta_2 * tf.convert_to_tensor(v) + (1.0 - self.beta_2) * tf.square(gradient)
        self.assign(m, new_m)
        self.assign(v, new_v)
        mean, square = new_m / (1.0 - self.beta_1**count), new_v / (1.0 - self.beta_2**count)
        self.assign_sub(variable, rate * mean * tf.math.rsqrt(square + self.epsilon))


@keras.saving.register_keras_serializable("tf_gan_zoo")
class RestartedAdam(keras.optimizers.Adam):
    """Adam that begins anew at given updates: its moments count as 0, its bias correction as at the start.

    Which updates those are follows from the count of updates alone, so an interrupted run needs nothing
    besides it. All variables must take part in the update at a restart or never again.

    Args:
        learning_rate: number or schedule; it does not begin anew.
        restarts: counts of updates, rising, before which it does.
        **kwargs: of `keras.optimizers.Adam`.

    Raises:
        ValueError: for AMSGrad, or restarts that do not rise or are not above 0.
    """

    def __init__(self, learning_rate: Any = 1e-3, restarts: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.restarts = tuple(restarts)
        if self.amsgrad or any(b <= a for a, b in zip((0, *self.restarts), self.restarts)):
            raise ValueError(f"RestartedAdam needs rising restarts above 0, no amsgrad; got {restarts}.")

    def updates_since_restart(self, update: int | tf.Tensor) -> tf.Tensor:
        """0 at a restart, after `update` updates in all."""
        first = tf.constant([0, *self.restarts], tf.int64)
        update = tf.cast(update, tf.int64)
        return update - tf.reduce_max(tf.where(first <= update, first, 0))

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        index, since = self._get_variable_index(variable), self.updates_since_restart(self.iterations.value)
        gradient, rate = tf.cast(gradient, variable.dtype), tf.cast(learning_rate, variable.dtype)
        kept = tf.cast(since > 0, variable.dtype)
        count = tf.cast(since + 1, variable.dtype)
        m, v = self._momentums[index], self._velocities[index]
        new_m = self.beta_1 * kept * tf.convert_to_tensor(m) + (1.0 - self.beta_1) * gradient
        new_v = self.beta_2 * kept * tf.convert_to_tensor(v) + (1.0 - self.beta_2) * tf.square(gradient)
        rate *= tf.sqrt(1.0 - self.beta_2**count) / (1.0 - self.beta_1**count)
        self.assign(m, new_m)
        self.assign(v, new_v)
        self.assign_sub(variable, rate * new_m / (tf.sqrt(new_v) + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "restarts": list(self.restarts)}


def rising_momentum_sgd(config: Config) -> RisingMomentumSGD:
    """The optimizer of the first papers' code: rate divided at every update, momentum rising by epochs.

    Args:
        config: has learning_rate, learning_rate_divisor, min_learning_rate, momentum, final_momentum and
            momentum_epochs.
    """
    c = config
    rate = GeometricDecay(c.learning_rate, c.learning_rate_divisor, c.min_learning_rate)
    epoch = max((c.steps_per_epoch or 1) // c.accumulation_steps, 1)
    last = epoch * max(c.momentum_epochs, 2)
    return RisingMomentumSGD(rate, c.momentum, c.final_momentum, first_update=epoch, last_update=last)
