"""Options of data sources: typed and bounded like fields of a config, refused before anything is read."""

import numpy as np
import pytest

import tf_gan_zoo as zoo
from tf_gan_zoo.data import DatasetError, sources
from tf_gan_zoo.data.sources import Request, Source, option_types, register_source


@pytest.mark.parametrize("options, words", [
    ({"fonts": True}, r"'fonts' of the data source 'glyphs'.*got True, expected str \| tuple"),
    ({"num_examples": 10**12}, "numbers must be finite and at most 100,000,000"),
    ({"num_examples": "many"}, "valid integer"),
    ({"num_examples": True}, "valid integer"),
    ({"rotation": float("nan")}, "numbers must be finite"),
    ({"colors": 3}, "'colors'"),
    ({"characters": ["A", "B"]}, "valid string"),
    ({"flip": 1}, "'flip'.*valid boolean"),
    ({"load_scale": "large"}, "'load_scale'"),
    ({"load_size": 1e300}, "'load_size'"),
    ({"characters": "A" * 10**6, "fonts": 5}, "'fonts'"),
])  # fmt: skip
def test_values_of_another_type_or_size_are_refused(options, words):
    with pytest.raises(DatasetError, match=words) as error:
        zoo.load_dataset("glyphs", image_size=8, **options)
    assert len(str(error.value)) < 500


def test_lists_and_numbers_of_numpy_are_taken():
    options = {"fonts": ["sans"], "num_examples": np.int64(40), "rotation": np.float32(3), "load_scale": 2}
    assert zoo.load_dataset("glyphs", image_size=8, batch_size=4, characters="AB", **options)


def test_sources_of_users_say_their_types_or_not(monkeypatch):
    monkeypatch.setattr(sources, "_SOURCES", dict(sources._SOURCES))

    @register_source("typed_or_not")
    def read(request: Request, *, typed: int = 1, untyped="x") -> Source:
        return Source({"images": np.zeros((8, 8, 8, 3), np.uint8)})

    assert option_types("typed_or_not") == {"typed": int}
    zoo.load_dataset("typed_or_not", image_size=8, batch_size=2, untyped=object())
    with pytest.raises(DatasetError, match="'typed' of the data source 'typed_or_not'"):
        zoo.load_dataset("typed_or_not", image_size=8, batch_size=2, typed="x")
