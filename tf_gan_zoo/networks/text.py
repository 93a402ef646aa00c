"""Captions as vectors: the character-level network of Reed et al., what it learns from, and its loss.

Reference: S. Reed, Z. Akata, H. Lee, B. Schiele, "Learning Deep Representations of Fine-grained Visual
Descriptions", CVPR 2016, arXiv:1605.05395. Layers and numbers follow the authors' released code.

Configs have the fields of `captioned.CaptionedConfig`.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import fitting
from tf_gan_zoo.config import Config, height_width

#: Other characters are left out of a caption's code.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{} "
#: Shorter captions leave nothing for the recurrent layer.
SHORTEST_CAPTIONS = 66
#: Features of MobileNet.
FEATURE_SIZE = 1024


def structured_hinge(features: tf.Tensor, text: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The symmetric structured loss (equations 1 to 4), a scalar: own pairs score higher than others by 1.

    Args:
        features: of pictures, (batch, size).
        text: embeddings of their captions, (batch, size).
        labels: classes (batch,); pairs of one class are left out.
    """
    scores = tf.matmul(features, text, transpose_b=True)
    own, others = tf.linalg.diag_part(scores), tf.not_equal(labels[:, None], labels)
    by_picture, by_caption = tf.nn.relu(1.0 + scores - own[:, None]), tf.nn.relu(1.0 + scores - own)
    return tf.reduce_mean(tf.where(others, by_picture + by_caption, 0.0))


def characters_of(captions: tf.Tensor, length: int) -> tf.Tensor:
    """Strings (batch,) -> places of their letters in ALPHABET, int32 (batch, length)."""
    places = np.full(256, len(ALPHABET), "int32")
    for place, letter in enumerate(ALPHABET):
        places[ord(letter)] = place
    letters = tf.io.decode_raw(tf.strings.lower(captions), tf.uint8, fixed_length=length)
    return tf.gather(places, tf.cast(letters, tf.int32))


@keras.saving.register_keras_serializable("tf_gan_zoo")
class CharacterCode(layers.Layer):
    """Places in ALPHABET (batch, length) -> (batch, length, 70), one 1 per letter, all 0 for others."""

    def call(self, places: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.equal(places[..., None], tf.range(len(ALPHABET))), self.compute_dtype)

    def compute_output_spec(self, places: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor((*places.shape, len(ALPHABET)), dtype=self.compute_dtype)


def build_text_encoder(config: Config) -> keras.Model:
    """The char-CNN-RNN: letters (batch, caption_length) -> embeddings (batch, text_size)."""
    x = letters = keras.Input((config.caption_length,), dtype="int32", name="characters")
    x, width = CharacterCode()(x), config.text_width
    for filters, stride in ((3 * width, 3), (4 * width, 3), (2 * width, 2)):
        x = layers.Conv1D(filters, 4, activation="relu", **_weights(config))(x)
        x = layers.MaxPooling1D(3, stride)(x)
    inputs = layers.Dense(2 * width, **_weights(config))(x)
    recurrent = layers.Dense(2 * width, **_weights(config))
    states = [keras.ops.zeros_like(inputs[:, 0])]
    for step in range(inputs.shape[1]):
        total = layers.Add()([inputs[:, step], recurrent(states[-1])])
        states.append(keras.ops.maximum(total, 0.0))  # what fuses MatMul, Add and Relu fails on this loop
    mean = layers.Average()(states[1:]) if len(states) > 2 else states[1]
    text = layers.Dense(config.text_size, dtype="float32", name="text", **_weights(config))(mean)
    return keras.Model(letters, text, name="text_encoder")


def _weights(config: Config) -> dict[str, keras.initializers.Initializer]:
    """First weights and biases of one layer."""
    limit, kinds = config.text_initial_range, ("kernel_initializer", "bias_initializer")
    return {kind: keras.initializers.RandomUniform(-limit, limit) for kind in kinds}


class ImageFeatures:
    """What captions learn to fit: images (batch, height, width, channels) in [-1, 1] -> (batch, text_size).

    A plain object and no Keras layer: a model holds it without saving, training or counting its weights.
    """

    def __init__(self, config: Config) -> None:
        with fitting.initial_conditions("float32", config.seed, "image features"):
            if config.image_features == "mobilenet":
                self.network = keras.applications.MobileNet(
                    input_shape=(224, 224, 3), include_top=False, pooling="avg"
                )
            else:
                self.network = _random_features(config)
        self.network.trainable = False

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        images = tf.image.grayscale_to_rgb(images) if images.shape[-1] == 1 else images
        return self.network(tf.image.resize(images, self.network.input_shape[1:3]), training=False)


def _random_features(config: Config) -> keras.Model:
    x = images = keras.Input((*height_width(config.image_size), 3))
    for filters in (16, 32, 64):
        x = layers.Conv2D(filters, 4, 2, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    features = layers.Dense(config.text_size, kernel_initializer="lecun_normal")(layers.Flatten()(x))
    return keras.Model(images, features)
