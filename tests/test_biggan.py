"""What the BigGAN paper claims: chunks of latents, orthogonal filters, truncation, standing statistics."""

import resource

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_dataset, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.layers import ConditionalBatchNormalization, SelfAttention, SpectralNormalization
from tf_gan_zoo.models import biggan
from tf_gan_zoo.models.biggan import BigGAN, BigGANConfig, Orthogonal, orthogonal_penalty


def widths(width, generator, discriminator):
    return {
        "generator_widths": tuple(width * k for k in generator),
        "discriminator_widths": tuple(width * k for k in discriminator),
    }


SIZE_128 = ((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16))
SIZE_256 = ((16, 16, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 16, 16))
CIFAR = {
    "image_size": 32, "num_classes": 10, "latent_size": 128, "num_halvings": 2, "attention_size": None,
    "embedding_size": None, "skip_latents": False, **widths(64, [4] * 4, [4] * 4),
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    model = tiny("biggan")
    model.compile(run_eagerly=True)
    model.fit(make_dataset(model, 1), verbose=0)
    return model


def num_weights(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def test_cifar_variant():
    config = BigGANConfig(**CIFAR)
    assert num_weights(biggan.build_generator(config)) == 4_304_387
    assert num_weights(biggan.build_discriminator(config)) == 4_207_361


@pytest.mark.parametrize("size, table, options", [
    (128, SIZE_128, {}), (256, SIZE_256, {"latent_size": 140, "num_halvings": 6}),
])  # fmt: skip
def test_tables_of_the_appendix(size, table, options):
    """Channels at every size, an eighth of the paper's width."""
    config = BigGANConfig(image_size=size, **options, **widths(12, *table))
    generator, discriminator = biggan.build_generator(config), biggan.build_discriminator(config)
    sums = [x.output.shape[1:] for x in generator.layers if isinstance(x, keras.layers.Add)]
    assert sums == [(8 << k, 8 << k, 12 * factor) for k, factor in enumerate(table[0][1:])]
    sums = [x.output.shape[1:] for x in discriminator.layers if isinstance(x, keras.layers.Add)][:-1]
    sides = [size >> k + 1 for k in range(len(table[1]) - 1)]
    assert sums == [(side, side, 12 * k) for side, k in zip([*sides, sides[-1]], table[1])]
    for network in (generator, discriminator):
        (attention,) = (x for x in network.layers if isinstance(x, SelfAttention))
        assert attention.input.shape[1] == 64


def test_paper_and_launch_row():
    c, model = BigGANConfig(), tiny("biggan")
    for player, rate in (("generator", 5e-5), ("discriminator", 2e-4)):
        adam = model.make_optimizer(player)
        assert (float(adam.learning_rate), adam.beta_1, adam.beta_2) == (pytest.approx(rate), 0.0, 0.999)
    assert (c.batch_size, c.n_critic, c.ema_decay, c.ema_start) == (2048, 2, 0.9999, 20_000)
    launch = BigGANConfig(
        n_critic=1, learning_rate=1e-4, discriminator_learning_rate=4e-4, orthogonal_weight=0.0,
        spectral_epsilon=1e-6, adam_epsilon=1e-6, batch_size=256, accumulation_steps=8,
    )  # fmt: skip
    assert launch.batch_size * launch.accumulation_steps == c.batch_size
    assert tiny("biggan", adam_epsilon=1e-6).make_optimizer("generator").epsilon == 1e-6


def test_all_weights_are_normalised_but_the_shared_embedding(model):
    normalised = (SpectralNormalization, SelfAttention)
    for network in model.networks.values():
        others = [x for x in network.layers if x.trainable_variables and not isinstance(x, normalised)]
        names = ["batch_normalization", "shared"] if network is model.generator else []
        assert sorted(x.name.split("_2")[0].rstrip("_0123456789") for x in others) == names
    tables = [x for x in model.generator.layers if isinstance(x, keras.layers.Embedding)]
    assert len(tables) == 1


def test_each_chunk_of_the_latents_feeds_its_own_block(model):
    """Gains of block k change with chunk k + 1 and the class, and with nothing else; chunk 0 is the map's."""
    g = model.generator
    norms = [x for x in g.layers if isinstance(x, ConditionalBatchNormalization)]
    first = next(x for x in g.layers if isinstance(x, SpectralNormalization) and x.output.shape[1:] == (32,))
    probe = keras.Model(g.input, [first.output, *(norm.input[1] for norm in norms)])
    latents = np.random.default_rng(0).normal(size=(1, 6)).astype("float32")

    def changed_by(chunk=None, label=0):
        other = latents.copy()
        if chunk is not None:
            other[:, 2 * chunk : 2 * chunk + 2] += 1.0
        values = [probe({"latents": tf.constant(z), "labels": tf.constant([y])})
                  for z, y in ((latents, 0), (other, label))]  # fmt: skip
        return [bool(np.abs(a - b).max() > 1e-6) for a, b in zip(*values)]

    assert changed_by(0) == [True, False, False, False, False]
    assert changed_by(1) == [False, True, True, False, False]
    assert changed_by(2) == [False, False, False, True, True]
    assert changed_by(label=1) == [False, True, True, True, True]


def test_gains_are_one_plus_a_linear_map_of_embedding_and_chunk(model):
    g = model.generator
    norm = next(x for x in g.layers if isinstance(x, ConditionalBatchNormalization))
    gain, bias = keras.Model(g.input, norm.input[1:])(
        {"latents": tf.ones((1, 6)) * tf.range(6.0), "labels": tf.constant([2])}
    )
    vector = np.concatenate([np.asarray(g.get_layer("shared").embeddings)[2], [2.0, 3.0]])
    dense = [x for x in g.layers if isinstance(x, SpectralNormalization) and x.layer.name.startswith("dense")]
    maps = [np.asarray(x.normalized_kernel()) for x in dense[1:3]]
    np.testing.assert_allclose(gain[0], 1 + vector @ maps[0], atol=1e-5)
    np.testing.assert_allclose(bias[0], vector @ maps[1], atol=1e-5)
    assert [x.layer.use_bias for x in dense] == [True] + [False] * 8


def penalty_by_hand(kernel):
    matrix = np.asarray(kernel, "float64").reshape(-1, kernel.shape[-1])
    products = matrix.T @ matrix
    return ((products * (1 - np.eye(len(products)))) ** 2).sum()


def test_orthogonal_penalty_by_hand():
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=s).astype("float32") for s in ((3, 3, 4, 5), (2, 40), (1, 1, 6, 6))]
    expected = sum(penalty_by_hand(kernel) for kernel in kernels)
    assert float(orthogonal_penalty(list(map(tf.constant, kernels)))) == pytest.approx(expected, rel=1e-5)
    lengths = np.diag([1.0, 5.0, 0.1]).astype("float32")  # orthogonal, of any length
    assert float(orthogonal_penalty([tf.constant(lengths)])) == 0.0


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (2, 40), (3, 3, 8, 4), (1, 1, 6, 6)])
def test_initial_weights_are_orthogonal(shape):
    matrix = np.asarray(Orthogonal(seed=3)(shape)).reshape(-1, shape[-1])
    products = matrix.T @ matrix if len(matrix) >= shape[-1] else matrix @ matrix.T
    np.testing.assert_allclose(products, np.eye(len(products)), atol=1e-5)
    assert np.abs(matrix - np.asarray(Orthogonal(seed=4)(shape)).reshape(matrix.shape)).max() > 0.1


def test_the_penalty_is_over_all_kernels_of_the_generator_and_lowers_them():
    model = tiny("biggan", orthogonal_weight=1e-4)
    kernels = [x.kernel for x in model.generator.layers if isinstance(x, SpectralNormalization)]
    (attention,) = (x for x in model.generator.layers if isinstance(x, SelfAttention))
    convs = (attention.query, attention.key, attention.value, attention.output_conv)
    expected = 1e-4 * sum(penalty_by_hand(k) for k in [*kernels, *(conv.kernel for conv in convs)])
    assert float(model._orthogonal_loss()) == pytest.approx(expected, rel=1e-4)
    assert float(tiny("biggan", orthogonal_weight=0.0)._orthogonal_loss()) == 0.0


def test_truncated_latents_lie_inside_and_vary_less(model):
    for threshold, deviation in ((0.5, 0.2836), (1.0, 0.5396), (2.0, 0.8796)):  # of truncated normals
        latents = np.asarray(model._truncated_inputs(5000, 0, threshold)["latents"])
        assert np.abs(latents).max() <= threshold
        assert latents.std() == pytest.approx(deviation, abs=0.005)
        assert latents.mean() == pytest.approx(0.0, abs=0.02)


def test_truncated_samples_are_alike(model):
    samples = {t: model.generate(64, seed=1, labels=1, truncation=t) for t in (None, 1.0, 0.1)}
    spreads = [images.std(axis=0).mean() for images in samples.values()]
    assert spreads[0] > spreads[1] > spreads[2] > 0
    np.testing.assert_array_equal(samples[1.0], model.generate(64, seed=1, labels=1, truncation=1.0))
    inputs = model._truncated_inputs(64, 1, 1.0, labels=1)
    np.testing.assert_array_equal(inputs["labels"], [1] * 64)
    np.testing.assert_allclose(samples[1.0], model.run(inputs), atol=1e-6)
    with pytest.raises(ValueError, match="above 0"):
        model.generate(1, truncation=-1.0)
    with pytest.raises(ValueError, match="at least 1"):
        model.generate(0, truncation=1.0)


def test_between_two_classes(model):
    images = model.between_classes(0, 2, num_steps=5, seed=3, truncation=1.0)
    assert images.shape == (5, 8, 8, 3)
    latents = np.repeat(model._truncated_inputs(2, 3, 1.0)["latents"][:1], 2, axis=0)
    ends = model.run({"latents": latents, "labels": np.array([0, 2], "int32")})
    np.testing.assert_allclose(images[[0, -1]], ends, atol=1e-5)
    assert (np.abs(np.diff(images, axis=0)).max((1, 2, 3)) > 0).all()
    with pytest.raises(ValueError, match="2 or more steps"):
        model.between_classes(0, 1, num_steps=1)
    with pytest.raises(ValueError, match="integers from 0 to 2"):
        model.between_classes(0, 3)


def test_averaging_begins_at_its_step():
    model = tiny("biggan", ema_start=1, ema_decay=0.75, standing_batches=0, n_critic=1)
    batch = model.named(make_fields(model, 4))

    def weights(network):
        return [v.numpy() for v in network.variables if v.name == "kernel"]

    model.train_step(dict(batch))
    first = weights(model.generator)
    for average, value in zip(weights(model.generator_ema), first):
        np.testing.assert_array_equal(average, value)
    model.train_step(dict(batch))
    for average, before, now in zip(weights(model.generator_ema), first, weights(model.generator)):
        np.testing.assert_allclose(average, 0.75 * before + 0.25 * now, atol=1e-6)


def statistics(model):
    norms = [x for x in model.generator_ema.layers if isinstance(x, keras.layers.BatchNormalization)]
    return norms, [np.array(v) for x in norms for v in (x.moving_mean, x.moving_variance)]


def test_standing_statistics_are_means_over_batches_of_samples(model):
    before = [v.numpy() for v in model.generator.variables]
    model.standing_statistics(num_batches=3)
    norms, found = statistics(model)
    assert all(not x.trainable and x.momentum == 0.9 and x.synchronized for x in norms)
    inputs = model.sample_inputs(192)
    maps = keras.Model(model.generator_ema.input, norms[0].input[0])  # of the first block, before any norm
    batches = [{n: v[64 * k : 64 * k + 64] for n, v in inputs.items()} for k in range(3)]
    values = [np.asarray(maps(batch)) for batch in batches]
    np.testing.assert_allclose(found[0], np.mean([v.mean((0, 1, 2)) for v in values], axis=0), atol=1e-4)
    np.testing.assert_allclose(found[1], np.mean([v.var((0, 1, 2)) for v in values], axis=0), rtol=1e-3)
    model.standing_statistics(num_batches=3)
    for again, value in zip(statistics(model)[1], found):
        np.testing.assert_allclose(again, value, rtol=2e-2, atol=2e-3)  # spectral norms come closer
    model.standing_statistics(num_batches=3, truncation=0.1)
    assert statistics(model)[1][1].sum() < found[1].sum()  # less variance among truncated samples
    for variable, value in zip(model.generator.variables, before):
        np.testing.assert_array_equal(variable, value)


def test_fit_ends_every_epoch_with_standing_statistics():
    model, steps = tiny("biggan"), []
    model.compile(run_eagerly=True)
    object.__setattr__(model, "standing_statistics", lambda: steps.append(int(model.step)))
    model.fit(make_dataset(model, 2).repeat(), epochs=2, steps_per_epoch=1, verbose=0)
    assert steps == [1, 2]


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 100}, "expected multiples of 32"),
    ({"latent_size": 128}, "6 equal chunks, got 128"),
    ({"embedding_size": None}, "Set embedding_size, or skip_latents=False"),
    ({"attention_size": 128}, r"feature maps of \[8, 16, 32, 64\] pixels, got 128"),
    ({"num_halvings": 7}, "D has 6 blocks, which cannot halve 7 times"),
    ({"num_classes": None}, "num_classes"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        BigGANConfig(**overrides)


def test_published_samples_obey_labels_and_truncation():
    """By the packaged classifier; truncated samples are of their class more often, and less varied."""
    labels = np.arange(400) % 10
    model, accuracies, spreads = zoo.get("biggan.fashion_mnist", weights="pretrained"), [], []
    for truncation in (None, 0.5):
        samples = model.generate(400, seed=1, labels=labels, truncation=truncation)
        accuracies.append(model._class_accuracy(samples, labels)["class_accuracy"])
        spreads.append(np.mean([samples[labels == label].std(0).mean() for label in range(10)]))
    assert accuracies[1] >= accuracies[0] > 0.8
    assert spreads[1] < 0.8 * spreads[0]


@pytest.mark.slow  # 158 million weights: minutes and gigabytes
def test_one_step_at_paper_size(record_property):
    model = BigGAN(BigGANConfig(batch_size=2, standing_batches=0))
    model.compile(run_eagerly=True)
    history = model.fit(make_fields(model, 2 * model.batches_per_step), batch_size=2, verbose=0).history
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    record_property("peak_memory_gib", peak)
    print(f"BigGAN-128, one step with batch 2: at most {peak:.1f} GiB of memory")
    assert np.isfinite(history["d_loss"] + history["g_loss"]).all()
    assert int(model.step) == 1
