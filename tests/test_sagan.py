"""What the SAGAN paper claims: attention that starts as the identity, normalised players, two rates."""

import resource

import keras
import numpy as np
import pytest
from conftest import make_dataset, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.layers import SelfAttention, SpectralNormalization
from tf_gan_zoo.models.sagan import SAGAN, SAGANConfig


def num_weights(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def attention_of(network):
    return [layer for layer in network.layers if isinstance(layer, SelfAttention)]


@pytest.fixture(scope="module")
def model():
    return tiny("sagan")


@pytest.mark.parametrize("size, generator, discriminator", [
    (32, (42_078_852, 256), (39_463_618, 128)), (64, (42_017_412, 128), (39_448_258, 64)),
])  # fmt: skip
def test_paper_size(size, generator, discriminator):
    paper = SAGAN(SAGANConfig(attention_size=size))
    for network, (weights, channels) in zip(paper.networks.values(), (generator, discriminator)):
        assert num_weights(network) == weights
        (layer,) = attention_of(network)
        assert layer.input.shape[1:] == (size, size, channels)
    # D's blocks are wide: both convolutions have the block's channels.
    wrapped = [x.layer for x in paper.discriminator.layers if isinstance(x, SpectralNormalization)]
    filters = [x.filters for x in wrapped if isinstance(x, keras.layers.Conv2D) and x.kernel_size == (3, 3)]
    assert filters == [width for width in (64, 128, 256, 512, 1024, 1024) for _ in range(2)]


def test_networks_start_as_in_the_released_code(model):
    """Its xavier_initializer is uniform; kernels of SN layers are (in, out) or (height, width, in, out)."""
    every = [layer for network in model.networks.values() for layer in network.layers]
    convs = [layer.layer for layer in every if isinstance(layer, SpectralNormalization)]
    kernels = [x.kernel.numpy() for x in convs if hasattr(x, "kernel")]
    assert len(kernels) > 10
    for kernel in kernels:
        area = int(np.prod(kernel.shape[:-2]))
        limit = np.sqrt(6 / (area * sum(kernel.shape[-2:])))
        assert np.abs(kernel).max() <= limit * 1.001
        assert kernel.size < 100 or kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.2)
    assert not any(np.any(x.bias) for x in convs if getattr(x, "bias", None) is not None)
    norms = [x for x in model.generator.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {x.epsilon for x in norms} == {1e-5}


def test_two_rates_and_one_update_each():
    c = SAGANConfig()
    model = tiny("sagan")
    for player, rate in (("generator", 1e-4), ("discriminator", 4e-4)):
        adam = model.make_optimizer(player)
        assert (float(adam.learning_rate), adam.beta_1, adam.beta_2) == (pytest.approx(rate), 0.0, 0.9)
    assert (c.batch_size, c.epochs * c.steps_per_epoch) == (256, 1_000_000)
    model.compile(run_eagerly=True)
    model.fit(make_dataset(model, 2), verbose=0)
    assert [int(model.player_optimizer(p).iterations) for p in model.players] == [2, 2]


def test_all_weights_are_normalised_but_the_classes_gains(model):
    normalised = (SpectralNormalization, SelfAttention)
    for network in model.networks.values():
        others = [x for x in network.layers if x.trainable_variables and not isinstance(x, normalised)]
        assert {type(x).__name__ for x in others} <= {"Embedding", "BatchNormalization"}
        assert network is model.generator or not others


def test_networks_start_as_those_without_attention(model):
    fields, inputs = make_fields(model, 3), model.sample_inputs(3)
    plain = tiny("sagan", attention_size=None)
    for name, network in plain.networks.items():
        own = model.networks[name]
        kept = [v for x in own.layers if not isinstance(x, SelfAttention) for v in x.weights]
        for variable, value in zip([v for x in network.layers for v in x.weights], kept):
            variable.assign(value)
    np.testing.assert_allclose(plain.run(inputs), model.run(inputs), atol=1e-6)
    logits = (m.logits(fields["images"], fields["labels"], training=False) for m in (plain, model))
    np.testing.assert_allclose(*logits, atol=1e-5)
    for network in model.networks.values():
        attention_of(network)[0].gamma.assign(1.0)
    changed = model.run(inputs)
    for network in model.networks.values():
        attention_of(network)[0].gamma.assign(0.0)
    assert np.abs(changed - model.run(inputs)).max() > 1e-4
    with pytest.raises(ValueError, match="attention_size=None"):
        plain.attention_maps()


def test_attention_learns_to_be_more_than_the_identity():
    model = tiny("sagan")
    model.compile(run_eagerly=True)
    model.fit(make_dataset(model, 1), verbose=0)
    assert all(float(attention_of(network)[0].gamma) != 0.0 for network in model.networks.values())


def test_attention_maps_belong_to_the_samples(model):
    maps = model.attention_maps(3, seed=4, labels=[0, 1, 2])
    assert maps.shape == (3, 4, 4, 2, 2)
    np.testing.assert_allclose(maps.sum((3, 4)), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(maps, model.attention_maps(3, seed=4, labels=[0, 1, 2]))
    assert np.abs(maps - model.attention_maps(3, seed=5, labels=[0, 1, 2])).max() > 0


def test_averaged_generator_is_an_option():
    model = tiny("sagan", ema_decay=0.5)
    model.compile(run_eagerly=True)
    before = [v.numpy() for v in model.generator.trainable_variables]
    model.fit(make_dataset(model, 1), verbose=0)
    assert model.public_network() is model.generator_ema
    current = [v.numpy() for v in model.generator.trainable_variables]
    pairs = zip(model.generator_ema.variables, model.generator.variables)
    averages = [average for average, own in pairs if own.trainable]
    for average, start, value in zip(averages, before, current):
        np.testing.assert_allclose(average, 0.5 * start + 0.5 * value, atol=1e-6)


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 100}, "expected multiples of 32"),
    ({"attention_size": 128}, r"both have feature maps of \[8, 16, 32, 64\] pixels, got 128"),
    ({"num_halvings": 7}, "D has 6 blocks, which cannot halve 7 times"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        SAGANConfig(**overrides)


def test_published_samples_are_of_the_class_asked_for():
    """By the packaged classifier; an untrained network, whose classes are alike, has a tenth."""
    labels = np.arange(400) % 10
    for weights, low, high in (("pretrained", 0.8, 1.0), (None, 0.0, 0.2)):
        model = zoo.get("sagan.fashion_mnist", weights=weights)
        samples = model.generate(400, seed=1, labels=labels)
        assert low <= model._class_accuracy(samples, labels)["class_accuracy"] <= high
    pretrained = zoo.get("sagan.fashion_mnist", weights="pretrained")
    assert all(abs(float(attention_of(n)[0].gamma)) > 0.01 for n in pretrained.networks.values())


@pytest.mark.slow  # 81 million weights: minutes and gigabytes
def test_one_step_at_paper_size(record_property):
    model = SAGAN(SAGANConfig(batch_size=2))
    model.compile(run_eagerly=True)
    history = model.fit(make_fields(model, 2), verbose=0).history
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    record_property("peak_memory_gib", peak)
    print(f"SAGAN-128, one step with batch 2: at most {peak:.1f} GiB of memory")
    assert np.isfinite(history["d_loss"] + history["g_loss"]).all()
