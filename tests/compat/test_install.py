import importlib
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest

from tally.compat import install

LIBRARY_FILE = jax.__file__.replace("__init__.py", "made_up.py")


def run(code, file="script.py"):
    names = {}
    exec(compile(code, file, "exec"), names)
    return names


@pytest.mark.parametrize(
    ("line", "name", "wanted"),
    [
        ("import keras", "keras.Sequential", "tally.models.Sequential"),
        ("from keras import layers, models", "layers.Conv2D", "tally.layers.Conv2D"),
        ("from keras import backend as K", "K.expand_dims", "tally.backend.expand_dims"),
        ("from keras.layers import Dense", "Dense", "tally.layers.Dense"),
        ("from keras.layers.core import Dense", "Dense", "tally.layers.Dense"),
        ("from keras.layers.convolutional import Conv2D", "Conv2D", "tally.layers.Conv2D"),
        ("from keras.utils import np_utils", "np_utils.to_categorical", "tally.utils.to_categorical"),
        ("import keras.utils", "keras.utils.to_categorical", "tally.utils.to_categorical"),
        ("from keras.datasets import mnist", "mnist.load_data", "tally.datasets.mnist.load_data"),
        ("from keras.models import *", "Sequential", "tally.models.Sequential"),
        ("from keras.applications import vgg16", "vgg16.VGG16", "tally.applications.VGG16"),
        ("from keras.engine import Layer", "Layer", "tally.Layer"),
        ("from keras.ops import image", "image.resize", "tally.ops.image.resize"),
        ("import tensorflow as tf", "tf.keras.layers.Dense", "tally.layers.Dense"),
        ("from tensorflow import keras", "keras.Model", "tally.Model"),
        ("import tensorflow.keras as keras", "keras.Input", "tally.Input"),
        ("import tensorflow.keras.backend as K", "K.sum", "tally.ops.sum"),
        ("from tensorflow.keras import layers", "layers.Flatten", "tally.layers.Flatten"),
        ("from tensorflow.keras.models import Sequential", "Sequential", "tally.models.Sequential"),
        (
            "from tensorflow.keras.optimizers import schedules",
            "schedules.ExponentialDecay",
            "tally.optimizers.schedules.ExponentialDecay",
        ),
        ("import tensorflow as tf", "tf.losses.MeanSquaredError", "tally.losses.MeanSquaredError"),
        ("import importlib; m = importlib.import_module('keras.layers')", "m.Dense", "tally.layers.Dense"),
    ],
)
def test_an_import_of_the_users_gives_this_librarys_things(line, name, wanted):
    with install():
        names = run(f"{line}\nfound = {name}")
    room, _, thing = wanted.rpartition(".")
    assert names["found"] is getattr(importlib.import_module(room), thing)


def test_the_keras_of_tensorflow_is_one_module_whichever_way_it_is_imported():
    with install():
        names = run("import tensorflow as tf\nfrom tensorflow import keras\nimport tensorflow.keras as k")
    assert names["tf"].keras is names["keras"] is names["k"]
    assert isinstance(names["tf"], types.ModuleType)


def test_afterwards_keras_is_keras_again():
    import keras as before

    with install():
        import keras as meanwhile
    import keras as after

    assert after is before is sys.modules["keras"]
    assert meanwhile is not before
    assert not hasattr(jnp.zeros(2), "numpy")
    assert type(jnp.zeros(2).shape) is tuple


def test_nothing_enters_the_modules_that_libraries_see():
    before = set(sys.modules)
    with install():
        run("import tensorflow.keras.layers")
    assert {
        name for name in set(sys.modules) - before if name.split(".")[0] in ("keras", "tensorflow")
    } == set()


def test_an_installed_package_finds_what_is_really_there():
    import keras

    with install():
        assert run("import keras", LIBRARY_FILE)["keras"] is keras
        found = run("import importlib; m = importlib.import_module('keras')", LIBRARY_FILE)["m"]
        assert found is keras


def test_an_installed_package_that_probes_for_tensorflow_finds_none_where_there_is_none(tmp_path):
    (tmp_path / "probe.py").write_text(
        "try:\n    import tensorflow\nexcept ImportError:\n    tensorflow = None\n"
    )
    (tmp_path / "script.py").write_text(
        "import tensorflow, probe\nprint(tensorflow.__name__, probe.tensorflow)\n"
    )
    code = (
        "import sys\n"
        "from tally.core import errors\n"
        f"errors._NOT_USERS += ({str(tmp_path / 'probe')!r},)\n"
        "sys.meta_path.insert(0, type('None', (), {'find_spec': staticmethod(find)}))\n"
        "from tally.cli.main import main\n"
        f"main(['run', {str(tmp_path / 'script.py')!r}])\n"
    )
    hide = (
        "def find(name, path=None, target=None):\n"
        "    if name == 'tensorflow':\n"
        "        raise ModuleNotFoundError(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True, check=True)
    assert done.stdout == "tensorflow None\n"


def test_installing_twice_counts_the_last_removal():
    import keras

    first, second = install(), install()
    first.remove()
    first.remove()
    assert run("import keras")["keras"] is not keras
    second.remove()
    assert run("import keras")["keras"] is keras


def test_nothing_is_imported_before_a_script_asks():
    code = "import tally.compat, sys; tally.compat; print('jax' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


# -- names that are not here -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "kind", "told"),
    [
        (
            "import tensorflow as tf\ntf.Session()",
            AttributeError,
            "tf.Session has no counterpart in tally.\n"
            "  where: used at script.py:2\n"
            "  do: nothing to run: tally computes as the line is reached, and x.numpy() is the value",
        ),
        (
            "import tensorflow as tf\n\ntf.reduce_summ([1])",
            AttributeError,
            "tf.reduce_summ has no counterpart in tally.\n"
            "  where: used at script.py:3\n"
            "  do: did you mean tf.reduce_sum?",
        ),
        (
            "import tensorflow as tf\ntf.log(2.0)",
            AttributeError,
            "tf.log has no counterpart in tally.\n  where: used at script.py:2\n  do: write tf.math.log",
        ),
        (
            "from tensorflow.keras.layers import Dense, Dens",
            ImportError,
            "tf.keras.layers.Dens has no counterpart in tally.\n"
            "  where: used at script.py:1\n"
            "  do: did you mean tf.keras.layers.Dense?",
        ),
        (
            "import keras.layers.experimental.preprocessing",
            ImportError,
            "keras.layers.experimental has no counterpart in tally.\n"
            "  where: used at script.py:1\n"
            "  do: write keras.layers, without experimental",
        ),
        (
            "import tensorflow as tf\ntf.math.max_pool2d",
            AttributeError,
            "tf.math.max_pool2d has no counterpart in tally.\n"
            "  where: used at script.py:2\n"
            "  do: the nearest name is tf.nn.max_pool2d",
        ),
        (
            "import tensorflow as tf\ntf.nn.qwertyuiop",
            AttributeError,
            "tf.nn.qwertyuiop has no counterpart in tally.\n"
            "  where: used at script.py:2\n"
            "  do: dir(tf.nn) lists the names there are",
        ),
        (
            "import tensorflow.compat.v1 as tf\ntf.placeholder('float32')",
            AttributeError,
            "tf.compat.v1.placeholder has no counterpart in tally.\n"
            "  where: used at script.py:2\n"
            "  do: TensorFlow 1's sessions and placeholders have no counterpart; write it with keras.Model",
        ),
        (
            "import keras\nkeras.layers.as_array",
            AttributeError,
            "keras.layers.as_array has no counterpart in tally.\n"
            "  where: used at script.py:2\n"
            "  do: the nearest name is keras.ops.array",
        ),
    ],
)
def test_an_unknown_name_is_told_with_its_line_and_the_nearest_there_is(
    line, kind, told, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with install(), pytest.raises(kind) as caught:
        run(line, str(tmp_path / "script.py"))
    assert str(caught.value) == told


def test_a_script_can_ask_whether_a_name_is_there():
    code = (
        "import tensorflow as tf\n"
        "has = hasattr(tf, 'Session'), hasattr(tf, 'matmul')\n"
        "try:\n"
        "    from keras.layers import ConvLSTM2D\n"
        "except ImportError:\n"
        "    ConvLSTM2D = None\n"
    )
    with install():
        names = run(code)
    assert names["has"] == (False, True)
    assert names["ConvLSTM2D"] is None


def test_every_advice_points_to_what_is_there():
    from tally.compat.missing import INSTEAD

    with install():
        import keras
        import tensorflow as tf

        for path, told in INSTEAD.items():
            root, *words = re.split(r"[ (,]", told)[0].split(".")
            if words and root in ("keras", "tf"):
                assert _has({"keras": keras, "tf": tf}[root], words), f"{path}: {told}"


def _has(module, words):
    for word in words:
        if not hasattr(module, word):
            return False
        module = getattr(module, word)
    return True


def test_every_name_that_a_module_lists_can_be_had():
    with install():
        import keras
        import tensorflow as tf

        for module in (
            keras,
            keras.layers,
            keras.backend,
            keras.ops,
            keras.utils,
            keras.optimizers,
            tf,
            tf.nn,
            tf.math,
        ):
            assert module.__all__ == dir(module)
            assert all(hasattr(module, name) for name in dir(module))
