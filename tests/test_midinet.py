"""MidiNet's claims: what each of its three models sees, its loss by hand, melodies, chords and MIDI files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import music
from tf_gan_zoo.data import DatasetError
from tf_gan_zoo.models import midinet
from tf_gan_zoo.models.midinet import ChordCode, MidiNet, MidiNetConfig

SCALE = np.array([60, 62, 64, 65, 67, 69, 71, 72, 74, 76, 77, 79, 81, 83, 60, 60])


@pytest.fixture(scope="module", params=[1, 2, 3])
def model(request):
    return tiny("midinet", variant=request.param)


# -------------------------------------------------------------------- networks


def reaches(network, source, name):
    """Names of the layers of a kind through which an input's signal goes."""
    seen, open_layers = set(), [network.get_layer(source)]
    while open_layers:
        layer = open_layers.pop()
        for node in layer._outbound_nodes:
            if node.operation.name not in seen and node.operation in network.layers:
                seen.add(node.operation.name)
                open_layers.append(node.operation)
    return [layer.name for layer in network.layers if layer.name in seen and isinstance(layer, name)]


def test_chords_reach_every_layer_of_models_two_and_three_and_none_of_one(model):
    takes = model.config.variant > 1
    for network in (model.generator, model.discriminator):
        assert ("chords" in network.input) == takes
        if takes:
            weighted = (keras.layers.Dense, keras.layers.Conv2DTranspose)
            beside = [n.get_config() for n in network.layers if isinstance(n, keras.layers.Concatenate)]
            first = 1 if network is model.generator else 0  # the conditioner gets no chord
            kernels = [v for v in network.layers if isinstance(v, weighted)]
            assert len(beside) == (6 if first else 4)
            assert len(kernels) == (6 if first else 2)
    assert ("chords" in model.batch_spec) == takes


def test_the_previous_bar_enters_where_the_paper_says():
    """At the last layer only in model 2, at all transposed convolutions in 1 and 3."""
    channels = {}
    for variant in (1, 2, 3):
        config = MidiNetConfig(variant=variant)
        layers = midinet.build_generator(config).layers
        kernels = [x.kernel.shape for x in layers if isinstance(x, keras.layers.Conv2DTranspose)]
        channels[variant] = [shape[-1] for shape in kernels]
    assert channels[1] == [128 + 256, 256 + 256, 256 + 256, 256 + 256]
    assert channels[2] == [128 + 13, 128 + 13, 128 + 13, 128 + 13 + 16]
    assert channels[3] == [128 + 13 + 16] * 4


def test_kernels_and_norms_are_those_of_the_released_code():
    """Of its table: convolutions as (time, pitches, inputs, outputs), transposed ones the other way round."""
    config = MidiNetConfig()
    networks = midinet.build_generator(config), midinet.build_discriminator(config)
    kernels = [sorted(tuple(x.kernel.shape) for x in n.layers if hasattr(x, "kernel")) for n in networks]
    assert kernels[0] == sorted([
        (1, 128, 1, 16), *[(2, 1, 16, 16)] * 3,  # conditioner
        (100 + 13, 1024), (1024 + 13, 256), *[(2, 1, 128, 128 + 13 + 16)] * 3, (1, 128, 1, 128 + 13 + 16),
    ])  # fmt: skip
    assert kernels[1] == sorted([  # the first has a width of 128 pitches, which are channels here
        (2, 1, 128 * 14, 14), (4, 1, 14 + 13, 77), (3 * 77 + 13, 1024), (1024 + 13, 1)
    ])  # fmt: skip
    norms = [[x for x in n.layers if "BatchNormalization" in type(x).__name__] for n in networks]
    assert [len(some) for some in norms] == [2 + 3 + 4, 2]
    assert {(x.momentum, x.epsilon) for some in norms for x in some} == {(0.9, 1e-5)}


def test_the_discriminator_may_see_the_previous_bar():
    model = tiny("midinet", judge_previous=True)
    assert set(model.discriminator.input) == {"bars", "previous_bars", "chords"}
    fields = make_fields(model, 4)
    before = model._judge(fields["bars"], fields, training=False)[0]
    fields["previous_bars"] = 1 - fields["previous_bars"]
    assert np.abs(model._judge(fields["bars"], fields, training=False)[0] - before).max() > 0


def test_the_first_half_of_a_bar_depends_on_one_half_of_the_previous_one():
    """The first half, unless it is mirrored: then the half next to it."""
    for mirrored in (False, True):
        model = tiny("midinet", mirror_previous=mirrored, judge_previous=True)
        inputs = {name: np.array(value) for name, value in model.sample_inputs(1).items()}
        bars = []
        for half in (slice(0, 0), slice(0, 8), slice(8, 16)):
            inputs["previous_bars"] = np.zeros((1, 16, 128, 1), "float32")
            inputs["previous_bars"][:, half, 60:70] = 1
            bars.append(model.run(inputs)[0, :8])
        silent, first, second = bars
        assert (np.abs(first - silent).max() > 0) != mirrored
        assert (np.abs(second - silent).max() > 0) == mirrored


def test_the_fast_form_of_the_last_layer_is_a_transposed_convolution():
    maps = np.random.default_rng(0).normal(size=(2, 16, 1, 5)).astype("float32")
    fast = midinet.KeyboardConvolution(1, (1, 128), bias_initializer="normal")
    slow = keras.layers.Conv2DTranspose(1, (1, 128))
    assert fast(maps).shape == slow(maps).shape == (2, 16, 128, 1)
    slow.set_weights(fast.get_weights())
    np.testing.assert_allclose(fast(maps), slow(maps), atol=1e-5)


def test_chord_codes_are_a_root_and_a_mode():
    codes = ChordCode()(tf.constant([0, 11, 12, 21])).numpy()
    expected = np.zeros((4, 13))
    expected[[0, 1, 2, 3], [0, 11, 0, 9]] = 1
    expected[2:, 12] = 1
    np.testing.assert_array_equal(codes, expected)


def test_paper_weights_of_the_variants():
    weights = [MidiNetConfig(variant=v).model for v in (1, 2, 3)]
    assert [(v.bar_weight, v.feature_weight) for v in weights] == [(0.1, 1.0), (0.01, 0.1), (0.01, 0.1)]
    assert MidiNetConfig(variant=1, bar_weight=0.0).model.bar_weight == 0.0


# -------------------------------------------------------------------- losses


def test_losses_against_numpy(model):
    rng = np.random.default_rng(0)
    real, fake = rng.normal(0, 2, (2, 5, 1)).astype("float32")
    d_real, d_fake = (1 / (1 + np.exp(-x.astype("float64"))) for x in (real, fake))
    expected = -(0.9 * np.log(d_real) + 0.1 * np.log(1 - d_real)).mean() - np.log(1 - d_fake).mean()
    np.testing.assert_allclose(model.discriminator_loss(real, fake), expected, rtol=1e-5)
    a, b = rng.uniform(0, 1, (2, 6, 4, 3, 1)).astype("float32")
    by_hand = ((a.mean(0) - b.mean(0)) ** 2).sum() / 2
    np.testing.assert_allclose(midinet.half_squared_difference_of_means(a, b), by_hand, rtol=1e-5)


def test_each_step_updates_the_generator_twice():
    model = tiny("midinet")
    model.run_eagerly = True
    model.train_on_batch(make_fields(model, 4))
    counts = [int(model.player_optimizer(p).iterations.numpy()) for p in ("discriminator", "generator")]
    assert counts == [1, 2]


# -------------------------------------------------------------------- melodies


def test_bars_have_one_note_at_a_time_and_follow_each_other(model):
    melody = model.generate(4, seed=3)
    assert melody.shape == (4, 16, 128, 1)
    np.testing.assert_array_equal(melody.sum(axis=(2, 3)), 1)
    inputs = {name: np.array(value) for name, value in model.sample_inputs(4, 3).items()}
    for k in range(4):  # by hand: each bar from the one before
        given = {name: value[k : k + 1] for name, value in inputs.items()}
        given["previous_bars"] = melody[k - 1 : k] if k else np.zeros((1, 16, 128, 1), "float32")
        strongest = model.generator(given, training=False).numpy()[0, :, :, 0].argmax(axis=1)
        np.testing.assert_array_equal(strongest, music.pitches_of(melody[k]))


def test_continuing_a_melody_begins_with_its_last_bar():
    model = tiny("midinet")
    melody = model.generate(2, seed=1)
    more = model.continue_melody(melody, 3, seed=5, chords=["C", "Am", 7])
    again = model.generate(3, seed=5, chords=[0, 21, "G"], first_bar=melody[1])
    np.testing.assert_array_equal(more, again)


def test_wrong_chords_and_bars_are_refused():
    model = tiny("midinet")
    for chords, message in ((["C"], "one chord per bar"), (["H", "C"], "'H' is no chord"), ([24, 0], "24")):
        with pytest.raises(music.MusicError, match=message):
            model.generate(2, chords=chords)
    with pytest.raises(music.MusicError, match="takes no chords"):
        tiny("midinet", variant=1).generate(1, chords=["C"])
    with pytest.raises(music.MusicError, match="expected bars of shape"):
        model.continue_melody(np.zeros((16, 100)))
    with pytest.raises(ValueError, match="at least 1"):
        model.generate(0)


def test_trained_melodies_keep_to_their_chords_and_go_on_from_the_last_bar():
    """Chord tones 0.2 above those under another chord, and nearer to their own last bar than to another's."""
    examples = held_out("midinet.melodies", 400)
    found = zoo.get("midinet.melodies", weights="pretrained").measure(examples)
    untrained = zoo.get("midinet.melodies").measure(examples)
    assert found["chord_tone_rate"] > found["chord_tone_rate_baseline"] + 0.2
    assert found["chord_tone_rate"] > untrained["chord_tone_rate"] + 0.2
    assert found["pitch_distance"] < 0.5 * untrained["pitch_distance"]
    assert found["joint_interval"] < 0.3 * untrained["joint_interval"]
    assert found["joint_interval"] < found["joint_interval_baseline"] - 0.6


# -------------------------------------------------------------------- music


def test_chord_names_and_tones():
    numbers = {"C": 0, "F#m": 18, "Bb": 10, "Gb": 6, "Cb": 11, "Am": 21, 23: 23}
    assert {chord: music.parse_chord(chord) for chord in numbers} == numbers
    assert [music.parse_chord(music.chord_name(k)) for k in range(24)] == list(range(24))
    assert music.chord_tones(music.parse_chord("Am")) == (9, 0, 4)
    assert music.infer_chord([57, 60, 64]) == music.parse_chord("Am")
    assert music.infer_chord([60, 64, 67, 57], [4, 4, 4, 1]) == music.parse_chord("C")


def test_measures_by_hand():
    pitches = np.array([[60, 64, 67, 62], [69, 69, 60, 61]])
    assert music.chord_tone_rate(pitches, [0, 21]) == 6 / 8
    assert music.joint_interval(pitches, pitches[::-1]) == (1 + 7) / 2
    assert music.pitch_histogram_distance([0, 4], [12, 7]) == 0.5


def test_a_midi_file_gives_back_melody_and_chords(tmp_path):
    bars = music.roll_of(np.stack([SCALE, SCALE[::-1]]))
    path = music.write_midi(bars, tmp_path / "songs" / "a.mid", chords=["F", "Am"])
    pitches, chords = music.read_midi(path)
    np.testing.assert_array_equal(pitches, [SCALE, SCALE[::-1]])
    assert [music.chord_name(c) for c in chords] == ["F", "Am"]
    low = music.write_midi(music.roll_of(np.stack([SCALE - 24])), tmp_path / "low.mid")
    np.testing.assert_array_equal(music.read_midi(low)[0][0], SCALE)
    (tmp_path / "bad.mid").write_bytes(b"no music")
    with pytest.raises(music.MusicError, match="cannot be read"):
        music.read_midi(tmp_path / "bad.mid")


# -------------------------------------------------------------------- data


def load(name, **options):
    return zoo.load_dataset(
        name, view="melodies", image_size=(16, 128), channels=1, value_range=(0, 1), shuffle=False, **options
    )


def test_composed_melodies_are_music_by_their_own_rules():
    batch = next(iter(load("melodies", batch_size=480, num_songs=5)))
    bars, previous, chords = (batch[n].numpy() for n in ("bars", "previous_bars", "chords"))
    np.testing.assert_array_equal(bars.sum(axis=(2, 3)), 1)
    np.testing.assert_array_equal(previous[1:8], bars[:7])
    assert previous[::8].max() == 0
    pitches = music.pitches_of(bars)
    assert pitches.min() >= music.LOWEST
    assert pitches.max() <= music.HIGHEST
    assert music.chord_tone_rate(pitches[:, [0, 8]], chords) > 0.85
    assert music.chord_tone_rate(pitches[:, [0, 8]], np.roll(chords, 100)) < 0.6
    assert set(chords) == set(range(24))


def test_archives_of_bars(tmp_path):
    path = tmp_path / "bars.npz"
    bars = music.roll_of(np.stack([SCALE + k % 2 for k in range(10)]))
    codes = np.eye(13)[np.arange(10)] + (np.arange(10) % 2)[:, None] * np.eye(13)[12]
    np.savez(path, bars=bars, chords=codes, songs=np.arange(10) // 5)
    batch = next(iter(load(f"bars:{path}", batch_size=10, split="all")))
    np.testing.assert_array_equal(batch["bars"].numpy()[..., 0], bars)
    np.testing.assert_array_equal(batch["chords"], np.arange(10) + 12 * (np.arange(10) % 2))
    assert batch["previous_bars"].numpy().max(axis=(1, 2, 3)).tolist() == [0, 1, 1, 1, 1, 0, 1, 1, 1, 1]
    for arrays, message in (
        ({"bars": bars}, "no array 'chords'"),
        ({"bars": bars[:, :8], "chords": codes}, "expected bars of shape"),
        ({"bars": bars, "chords": np.full(10, 24)}, "chords must be numbers from 0 to 23"),
        ({"bars": bars, "chords": codes[:3]}, "3 chords"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DatasetError, match=message):
            load(f"bars:{path}", batch_size=2)


def test_folders_of_midi_files(tmp_path):
    for k in range(10):
        music.write_midi(music.roll_of(np.stack([SCALE, SCALE])), tmp_path / f"{k}.mid", chords=["C", "G"])
    batch = next(iter(load(f"midi:{tmp_path}", batch_size=2, split="test")))
    np.testing.assert_array_equal(music.pitches_of(batch["bars"]), [SCALE, SCALE])
    assert batch["chords"].numpy().tolist() == [0, 7]
    keys = next(iter(load(f"midi:{tmp_path}", batch_size=24)))["chords"].numpy()
    assert keys[::2].tolist() == list(range(12))
    with pytest.raises(DatasetError, match="no .mid"):
        load(f"midi:{tmp_path / '..' / tmp_path.name / 'none'}" if (tmp_path / "none").mkdir() else
             f"midi:{tmp_path / 'none'}")  # fmt: skip
    (tmp_path / "bad.mid").write_bytes(b"x")
    with pytest.raises(DatasetError, match="Remove the file"):
        load(f"midi:{tmp_path}", split="all")


def test_a_picture_of_a_melody_has_low_notes_below():
    roll = music.piano_roll(music.roll_of(np.stack([np.repeat([60, 72], 8)])))
    assert roll.shape == (4 * 30, 4 * 16, 1)
    rows = np.flatnonzero(roll[:, 2, 0] < 0)
    assert rows.tolist() == list(range(4 * 26, 4 * 27))
    assert np.flatnonzero(roll[:, 62, 0] < 0).tolist() == list(range(4 * 14, 4 * 15))


def test_listed_as_music():
    assert "midinet" in zoo.list_models("music")
    assert isinstance(zoo.get("midinet.theorytab"), MidiNet)
