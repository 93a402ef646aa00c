"""Optimizers that Keras does not have, and the numbers of those that it has."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import tiny

from tf_gan_zoo import models, optimizers


def test_every_model_file_states_the_epsilon_of_its_adam():
    """Keras's default, 1e-7, is ten times that of the papers' code."""
    silent, stated = [], 0
    for path in sorted(Path(models.__file__).parent.glob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for call in calls:
            if "keras.optimizers.Adam" in map(ast.unparse, (call.func, *call.args)):  # or a partial of it
                stated += 1
                given = {keyword.arg for keyword in call.keywords}
                silent += [] if "epsilon" in given else [f"{path.name}:{call.lineno}"]
    assert silent == []
    assert stated > 30


def test_outer_epsilon_rmsprop_follows_the_formula():
    """Gradients around epsilon, which Keras's RMSprop would make hardly a step of."""
    gradients = np.random.default_rng(0).normal(0, 1, (6, 4)) * [1.0, 1e-4, 1e-8, 1e-10]
    weight = keras.Variable(np.zeros(4))
    optimizer = optimizers.OuterEpsilonRMSprop(0.1, rho=0.8, epsilon=1e-8)
    optimizer.build([weight])
    expected, v = np.zeros(4), 0.0
    for gradient in gradients:
        optimizer.apply([gradient.astype("float32")], [weight])
        v = 0.8 * v + 0.2 * gradient**2
        expected -= 0.1 * gradient / (np.sqrt(v) + 1e-8)
        np.testing.assert_allclose(weight, expected, rtol=2e-4)


def test_outer_epsilon_rmsprop_comes_back_from_its_config_and_has_no_momentum():
    optimizer = optimizers.OuterEpsilonRMSprop(0.1, rho=0.99, epsilon=1e-10)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, optimizers.OuterEpsilonRMSprop)
    assert (again.epsilon, again.rho) == (1e-10, 0.99)
    for options in ({"momentum": 0.9}, {"centered": True}):
        with pytest.raises(ValueError, match="no momentum"):
            optimizers.OuterEpsilonRMSprop(**options)


def test_inner_epsilon_adam_follows_the_formula():
    """Gradients around sqrt(epsilon), where it matters on which side of the root epsilon stands."""
    gradients = np.random.default_rng(0).normal(0, 1, (6, 4)) * [1.0, 1e-3, 1e-4, 1e-6]
    weight = keras.Variable(np.zeros(4))
    optimizer = optimizers.InnerEpsilonAdam(0.1, beta_1=0.5, beta_2=0.999, epsilon=1e-8)
    optimizer.build([weight])
    expected, m, v = np.zeros(4), 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        optimizer.apply([gradient.astype("float32")], [weight])
        m, v = 0.5 * m + 0.5 * gradient, 0.999 * v + 0.001 * gradient**2
        expected -= 0.1 * m / (1 - 0.5**t) / np.sqrt(v / (1 - 0.999**t) + 1e-8)
        np.testing.assert_allclose(weight, expected, rtol=2e-4)


def test_inner_epsilon_adam_comes_back_from_its_config_and_has_no_amsgrad():
    optimizer = optimizers.InnerEpsilonAdam(0.1, epsilon=1e-6, beta_1=0.5)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, optimizers.InnerEpsilonAdam)
    assert (again.epsilon, again.beta_1) == (1e-6, 0.5)
    with pytest.raises(ValueError, match="no AMSGrad"):
        optimizers.InnerEpsilonAdam(amsgrad=True)


def test_coupled_decay_is_part_of_the_gradient_of_kernels():
    rng = np.random.default_rng(0)
    kernel, bias = (keras.Variable(rng.normal(size=shape)) for shape in ((3, 2), (2,)))
    optimizer = optimizers.CoupledDecaySGD(0.1, momentum=0.9, decay=0.05)
    optimizer.build([kernel, bias])
    expected = [kernel.numpy().astype("float64"), bias.numpy().astype("float64")]
    velocities = [0.0, 0.0]
    for _ in range(6):
        gradients = [rng.normal(size=v.shape).astype("float32") for v in expected]
        optimizer.apply(gradients, [kernel, bias])
        for k, decay in enumerate((0.05, 0.0)):
            velocities[k] = 0.9 * velocities[k] - 0.1 * (gradients[k] + decay * expected[k])
            expected[k] = expected[k] + velocities[k]
        np.testing.assert_allclose(kernel, expected[0], rtol=1e-5)
        np.testing.assert_allclose(bias, expected[1], rtol=1e-5)


def test_coupled_decay_comes_back_from_its_config_and_alone():
    optimizer = optimizers.CoupledDecaySGD(0.1, momentum=0.9, decay=0.05, nesterov=True)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, optimizers.CoupledDecaySGD)
    assert (again.decay, again.momentum, again.nesterov) == (0.05, 0.9, True)
    with pytest.raises(ValueError, match="no weight_decay, got 0.05 and 0.1"):
        optimizers.CoupledDecaySGD(decay=0.05, weight_decay=0.1)


@pytest.mark.parametrize("name", ["adversarial_imposters", "perceptual_gan_small_objects"])
def test_detectors_decay_their_kernels_as_their_references_do(name):
    model = tiny(name, optimizer="sgd", weight_decay=0.25)
    optimizer = model.make_optimizer("detector")
    assert isinstance(optimizer, optimizers.CoupledDecaySGD)
    assert (optimizer.decay, optimizer.weight_decay) == (0.25, None)
