"""Learning-rate schedules that Keras does not have."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Constant for `constant_steps`, then falling in a straight line to 0 over `decay_steps`, then 0.

    Args:
        initial_learning_rate: rate at the beginning.
        constant_steps: updates at that rate, 0 or more.
        decay_steps: updates from there to rate 0, at least 1.

    Raises:
        ValueError: for a negative `constant_steps` or a `decay_steps` below 1.
    """

    def __init__(self, initial_learning_rate: float, constant_steps: int, decay_steps: int) -> None:
        super().__init__()
        if constant_steps < 0 or decay_steps < 1:
            raise ValueError(
                "LinearDecay needs constant_steps >= 0 and decay_steps >= 1, "
                f"got {constant_steps} and {decay_steps}."
            )
        self.initial_learning_rate = initial_learning_rate
        self.constant_steps, self.decay_steps = constant_steps, decay_steps

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        decayed = tf.cast(step, tf.float32) - self.constant_steps
        remaining = tf.clip_by_value(1.0 - decayed / self.decay_steps, 0.0, 1.0)
        return self.initial_learning_rate * remaining

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "constant_steps": self.constant_steps,
            "decay_steps": self.decay_steps,
        }


@keras.saving.register_keras_serializable("tf_gan_zoo")
class GeometricDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that is divided by the same number at every update, down to a minimum.

    Args:
        initial_learning_rate: rate at the beginning.
        divisor: 1 or more; usually so close to 1 that float32 would not do for its powers.
        minimum: the rate falls no further.

    Raises:
        ValueError: for a divisor below 1.
    """

    def __init__(self, initial_learning_rate: float, divisor: float, minimum: float = 0.0) -> None:
        super().__init__()
        if divisor < 1:
            raise ValueError(f"GeometricDecay needs a divisor of at least 1, got {divisor}.")
        self.initial_learning_rate = initial_learning_rate
        self.divisor, self.minimum = divisor, minimum

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        exponent = -math.log(self.divisor) * tf.cast(step, tf.float32)
        return tf.maximum(self.initial_learning_rate * tf.exp(exponent), self.minimum)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "divisor": self.divisor,
            "minimum": self.minimum,
        }


@keras.saving.register_keras_serializable("tf_gan_zoo")
class ExponentialTail(keras.optimizers.schedules.LearningRateSchedule):
    """Constant for `constant_steps`, then falling by the same factor with every update, then constant.

    Args:
        initial_learning_rate: rate at the beginning.
        constant_steps: updates at that rate, 0 or more.
        decay_steps: updates in which it falls, at least 1.
        final_factor: what is left of the rate at the end, above 0.

    Raises:
        ValueError: for numbers outside of these limits.
    """

    def __init__(
        self, initial_learning_rate: float, constant_steps: int, decay_steps: int, final_factor: float
    ) -> None:
        super().__init__()
        if constant_steps < 0 or decay_steps < 1 or not final_factor > 0:
            raise ValueError(
                "ExponentialTail needs constant_steps >= 0, decay_steps >= 1 and final_factor > 0, "
                f"got {constant_steps}, {decay_steps} and {final_factor}."
            )
        self.initial_learning_rate, self.final_factor = initial_learning_rate, final_factor
        self.constant_steps, self.decay_steps = constant_steps, decay_steps

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        passed = (tf.cast(step, tf.float32) - self.constant_steps) / self.decay_steps
        exponent = math.log(self.final_factor) * tf.clip_by_value(passed, 0.0, 1.0)
        return self.initial_learning_rate * tf.exp(exponent)

    def get_config(self) -> dict[str, Any]:
        names = ("initial_learning_rate", "constant_steps", "decay_steps", "final_factor")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class Stretched(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule for an optimizer that counts one update where `factor` training steps have passed."""

    def __init__(self, schedule: Any, factor: int) -> None:
        super().__init__()
        if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            schedule = keras.saving.deserialize_keras_object(schedule)
        self.schedule, self.factor = schedule, factor

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        return self.schedule(step * self.factor)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "factor": self.factor}
