"""fnn.document: YAML with positions, overrides, and writing it back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnn.choices import ConfigError
from fnn.document import Document, child_names, override, read, write

TEXT = """\
seed: 0
data: {source: digits}
model:
  - conv: {features: 8, kernel: 3, name: stem}
  - relu
  - conv: {features: 16, kernel: 3}
  - conv: 32
  - residual:
      body:
        - relu
        - conv: {features: 16, kernel: 3}
  - dense: 10
loss: cross_entropy
optimizer: {sgd: 0.1}
train: {epochs: 3}
"""

BODY = ("model", 4, "residual", "body")
FIRST = {"sgd": "learning_rate", "adamw": "learning_rate", "conv": "features", "dense": "features"}


@pytest.fixture
def config(tmp_path):
    """From text to a document, read from a file."""

    def make(text=TEXT):
        file = tmp_path / "config.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(file)

    return make


def overridden(document, *texts):
    override(document, texts, FIRST.get)
    return document.tree


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-0.5", -0.5),
        (".inf", float("inf")),
        ("3", 3),
        ("012", 12),  # decimal: YAML 1.2 writes octal 0o12
        ("0o12", 10),
        ("0x10", 16),
        ("true", True),
        ("yes", "yes"),  # a word: YAML 1.2 has two bools, true and false
        ("on", "on"),
        ("null", None),
        ("", None),
        ("2013-01-01", "2013-01-01"),  # no date
        ("1:30", "1:30"),  # no sexagesimal number
        ("'3'", "3"),
        ('"1e-3"', "1e-3"),
        ("100%", "100%"),
        ("[1, two, {three: 3.0}]", [1, "two", {"three": 3.0}]),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_yaml_1_2_values_become_plain_data(config, yaml, value):
    got = config(f"a: {yaml}\n").tree["a"]
    assert got == value
    assert type(got) is type(value)


def test_what_is_read_is_plain_all_the_way_down(config):
    tree = config().tree
    assert type(tree) is dict
    assert type(tree["model"]) is list
    assert type(tree["model"][0]["conv"]) is dict
    assert type(tree["model"][0]["conv"]["features"]) is int
    assert type(tree["optimizer"]["sgd"]) is float
    assert type(tree["loss"]) is str


def test_whole_numbers_as_keys_stay_whole_numbers(config):
    assert config("boundaries: {10: 0.5, 20: 0.1}\n").tree == {"boundaries": {10: 0.5, 20: 0.1}}


def test_every_key_and_item_has_its_line(config):
    lines = config().lines
    expected = {
        ("seed",): 1,
        ("data",): 2,
        ("data", "source"): 2,
        ("model",): 3,
        ("model", 0): 4,
        ("model", 0, "conv"): 4,
        ("model", 0, "conv", "kernel"): 4,
        ("model", 1): 5,
        ("model", 4): 8,
        ("model", 4, "residual", "body"): 9,
        ("model", 4, "residual", "body", 1): 11,
        ("model", 4, "residual", "body", 1, "conv", "features"): 11,
        ("model", 5): 12,
        ("train", "epochs"): 15,
    }
    assert {path: lines.get(path) for path in expected} == expected


def test_a_byte_order_mark_and_windows_line_ends_are_read(config):
    document = config(b"\xef\xbb\xbfseed: 1\r\ntrain: {epochs: 2}\r\n")
    assert document.tree == {"seed": 1, "train": {"epochs": 2}}
    assert document.lines["train",] == 2


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("seed: 0\nloss: hinge\nseed: 1\n", 3, "duplicate key"),
        ("train:\n  epochs: 1\n  epochs: 2\n", 3, "duplicate key"),
        ("seed: 0\nmodel: !!python/object/apply:os.system [ls]\n", 2, "tags are refused"),
        ("seed: !mine 0\n", 1, "tags are refused"),
        ("seed: !!int '3'\n", 1, "tags are refused"),
        ("seed: !!binary aGVsbG8=\n", 1, "tags are refused"),
        ("seed: 0\nmodel: &m [relu]\n", 2, "anchors and aliases are refused"),
        ("a: 0\nb: *a\n", 2, "anchors and aliases are refused"),
        ("seed: 0\nloss: a: b\n", 2, "mapping values are not allowed"),
        ("seed: 0\n\tloss: x\n", 2, "cannot start any token"),
        ("seed: [1, 2\n", 2, "expected"),
        ("loss: 'hinge\n", 2, "unexpected end"),
        ("seed: 0\n---\nseed: 1\n", 2, "another document"),
        ("seed: 0\n<<: {loss: hinge}\n", 2, ""),  # a merge is an alias by another name
        ("%YAML 1.1\n---\nseed: 010\n", 2, "1.1"),  # there 010 is 8, and yes is true
        ("seed: 0\nloss: x\x00y\n", 2, "#x0000"),
        ("seed: 0\nloss: x\x07y\n", 2, "#x0007"),
        (f"loss: x\nseed: 0x{'f' * 5000}\n", 2, "seed: expected a number of at most 64 bits, got 20000"),
        (f"model:\n{'- ' * 3000}\n", 2, "expected at most 100 levels of nesting"),
        (f"seed: 0\nmodel: {'[' * 3000}{']' * 3000}\n", 2, "expected at most 100 levels of nesting"),
        (f"seed: 0\nmodel: {'{a: ' * 3000}{'}' * 3000}\n", 2, "expected at most 100 levels of nesting"),
    ],
)
def test_what_is_refused_is_refused_with_file_and_line(config, tmp_path, text, line, reason):
    with pytest.raises(ConfigError) as caught:
        config(text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'config.yaml'}:{line}: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "# nothing\n", "- relu\n", "relu\n", "3\n"])
def test_a_config_that_is_no_mapping_is_refused(config, tmp_path, text):
    with pytest.raises(ConfigError, match="expected a mapping of sections") as caught:
        config(text)
    assert str(caught.value).startswith(str(tmp_path / "config.yaml"))


def test_a_file_that_cannot_be_read_is_named(config, tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file or directory"):
        read(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read(tmp_path)
    with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read: it is no UTF-8 text"):
        config(b"loss: \xff\n")


def test_brackets_without_end_are_an_error_and_no_crash(config):
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        config("a: " + "[" * 1000 + "]" * 1000)


# ---------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("seed=1", ["seed"], 1),
        ("train.epochs=5", ["train", "epochs"], 5),
        ("train.clip=null", ["train", "clip"], None),
        ("train.clip=", ["train", "clip"], None),
        ("data.normalize=false", ["data", "normalize"], False),
        ("data.augment=[flip, {shift: 2}]", ["data", "augment"], ["flip", {"shift": 2}]),
        ("data.path=folder/a=b.csv", ["data", "path"], "folder/a=b.csv"),
        ("train.l2=1e-3", ["train", "l2"], 0.001),
        ("train.l2.*/kernel=0.5", ["train", "l2", "*/kernel"], 0.5),
        ("train.log_every=10%", ["train", "log_every"], "10%"),
        ("loss='3'", ["loss"], "3"),
        ("model.0.conv.features=64", ["model", 0, "conv", "features"], 64),
        ("model.stem.features=64", ["model", 0, "conv", "features"], 64),
        ("model.conv1.features=64", ["model", 2, "conv", "features"], 64),  # stem has no number
        ("model.conv2.features=64", ["model", 3, "conv", "features"], 64),
        ("model.-1.dense=7", ["model", 5, "dense"], 7),
        ("model.1=tanh", ["model", 1], "tanh"),
        ("model.relu1=tanh", ["model", 1], "tanh"),
        ("model.4.residual.body.1.conv.features=9", [*BODY, 1, "conv", "features"], 9),
        ("model.residual1.body.conv1.features=9", [*BODY, 1, "conv", "features"], 9),
        ("loss.cross_entropy.label_smoothing=0.1", ["loss", "cross_entropy", "label_smoothing"], 0.1),
    ],
)
def test_an_override_sets_one_value_and_nothing_else(config, text, path, value):
    document = config()
    expected = config().tree
    tree = overridden(document, text)
    *above, last = path
    node, got = expected, tree
    for key in above:
        got = got[key]
        if isinstance(node, dict) and not isinstance(node.get(key), (dict, list)):
            node[key] = {}
        node = node[key]
    assert got[last] == value
    assert type(got[last]) is type(value)
    node[last] = value
    assert tree == expected
    assert document.notes == []


def test_overrides_apply_in_order(config):
    assert overridden(config(), "seed=1", "seed=2")["seed"] == 2
    tree = overridden(config(), "model.0.conv.name=first", "model.first.features=5")
    assert tree["model"][0] == {"conv": {"features": 5, "kernel": 3, "name": "first"}}
    tree = overridden(config(), "model=[tanh]", "model.tanh1=relu")
    assert tree["model"] == ["relu"]


def test_a_scalar_that_gets_a_second_argument_becomes_the_first(config):
    tree = overridden(config(), "optimizer.sgd.momentum=0.9")
    assert tree["optimizer"] == {"sgd": {"learning_rate": 0.1, "momentum": 0.9}}
    tree = overridden(config(), "model.dense1.bias=false")
    assert tree["model"][5] == {"dense": {"features": 10, "bias": False}}
    tree = overridden(config(), "optimizer.sgd.learning_rate=0.5")
    assert tree["optimizer"] == {"sgd": {"learning_rate": 0.5}}


def test_a_list_that_gets_a_second_argument_becomes_the_first(config):
    names = {"mlp": "features", "residual": "body", "concat": "branches"}.get

    def changed(layer, text):
        document = config(f"model:\n  - {layer}\n")
        override(document, [text], names)
        return document.tree["model"][0]

    assert changed("mlp: [4, 3]", "model.mlp1.dropout_rate=0.5") == {
        "mlp": {"features": [4, 3], "dropout_rate": 0.5}
    }
    assert changed("mlp: [4, 3]", "model.mlp1.features=[5, 3]") == {"mlp": {"features": [5, 3]}}
    assert changed("residual: [relu]", "model.residual1.skip=tanh") == {
        "residual": {"body": ["relu"], "skip": "tanh"}
    }
    assert changed("residual: [relu]", "model.residual1.body=[tanh]") == {"residual": {"body": ["tanh"]}}
    # what is in the list is reached as before
    assert changed("residual: [relu]", "model.residual1.relu1=tanh") == {"residual": ["tanh"]}
    assert changed("mlp: [4, 3]", "model.mlp1.0=5") == {"mlp": [5, 3]}


def test_another_name_replaces_the_choice_and_a_note_says_so(config):
    document = config()
    tree = overridden(document, "optimizer.adamw.weight_decay=0.01")
    assert tree["optimizer"] == {"adamw": {"weight_decay": 0.01}}
    assert document.notes == ["optimizer.adamw.weight_decay=0.01 replaces optimizer: sgd"]

    document = config()
    tree = overridden(document, "model.0.dense=5", "data.source.arrays.path=a.csv")
    assert tree["model"][0] == {"dense": 5}
    assert tree["data"]["source"] == {"arrays": {"path": "a.csv"}}
    assert document.notes == [
        "model.0.dense=5 replaces model.0: conv",
        "data.source.arrays.path=a.csv replaces data.source: digits",
    ]


def test_a_choice_inside_a_choice_is_replaced_alone(config):
    cosine = "{cosine_decay_schedule: {init_value: 1e-3}}"
    text = f"optimizer: {{adamw: {{learning_rate: {cosine}, weight_decay: 0.1}}}}\n"
    document = config(text)
    tree = overridden(
        document,
        "optimizer.adamw.learning_rate.linear_schedule.init_value=0.5",
        "optimizer.adamw.learning_rate.linear_schedule.end_value=0.0",
    )
    schedule = {"linear_schedule": {"init_value": 0.5, "end_value": 0.0}}
    assert tree == {"optimizer": {"adamw": {"learning_rate": schedule, "weight_decay": 0.1}}}
    assert document.notes == [
        "optimizer.adamw.learning_rate.linear_schedule.init_value=0.5 replaces "
        "optimizer.adamw.learning_rate: cosine_decay_schedule"
    ]
    tree = overridden(config(text), "optimizer.adamw.learning_rate.cosine_decay_schedule.alpha=0.1")
    schedule = {"cosine_decay_schedule": {"init_value": 0.001, "alpha": 0.1}}
    assert tree["optimizer"]["adamw"]["learning_rate"] == schedule
    tree = overridden(config(text), "optimizer.adamw.learning_rate=0.2")
    assert tree["optimizer"]["adamw"] == {"learning_rate": 0.2, "weight_decay": 0.1}


def test_a_number_is_no_choice_and_is_replaced_without_a_note(config):
    document = config("optimizer: {sgd: {learning_rate: 0.1, momentum: 0.9}}\n")
    tree = overridden(document, "optimizer.sgd.learning_rate.linear_schedule.init_value=1.0")
    learning_rate = {"linear_schedule": {"init_value": 1.0}}
    assert tree["optimizer"] == {"sgd": {"learning_rate": learning_rate, "momentum": 0.9}}
    assert document.notes == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.stam.features=1", "no 'stam' in model; nearest: stem"),
        ("model.conv3.features=1", "no 'conv3' in model; nearest: conv2, conv1"),
        ("model.9.conv.features=1", "no '9' in model; nearest: "),
        ("model.residual1.body.con1.features=1", "no 'con1' in model.4.residual.body; nearest: conv1"),
        ("seed", "expected an override dotted.key=value, got 'seed'"),
        ("=3", "expected an override dotted.key=value, got '=3'"),
        ("seed=[1", "override seed=[1"),
        ("seed=!!int 3", "tags are refused"),
        ("seed=&a 3", "anchors and aliases are refused"),
        ("seed={a: 1, a: 2}", "duplicate key"),
    ],
)
def test_an_override_that_leads_nowhere_is_refused(config, text, message):
    document = config()
    with pytest.raises(ConfigError) as caught:
        overridden(document, text)
    assert message in str(caught.value)
    assert text in str(caught.value)


def test_a_wrong_override_leaves_no_trace(config):
    document = config()
    with pytest.raises(ConfigError):
        overridden(document, "model.nobody.features=1")
    assert document.tree == config().tree
    assert document.overrides == {}


def test_names_of_a_list_are_those_of_its_layers():
    layers = ["relu", {"conv": {"features": 1, "name": "stem"}}, {"conv": 3}, "relu", {"conv": {"kernel": 3}}]
    assert child_names(layers) == ["relu1", "stem", "conv1", "relu2", "conv2"]


# ---------------------------------------------------------------- where


def test_where_is_the_line_or_the_override_that_says_it(config, tmp_path):
    document = config()
    overridden(document, "model.stem.features=0", "train.clip=-1")
    file = tmp_path / "config.yaml"
    assert document.where(("seed",)) == f"{file}:1"
    assert document.where(("model", 0, "conv", "features")) == "override model.stem.features=0"
    assert document.where(("model", 0, "conv", "kernel")) == f"{file}:4"
    assert document.where(("model", 0)) == f"{file}:4"
    assert document.where(("train", "clip")) == "override train.clip=-1"
    assert document.where(("train",)) == f"{file}:15"


def test_where_falls_back_on_what_stands_above(config, tmp_path):
    document = config()
    file = tmp_path / "config.yaml"
    assert document.where(("model", 0, "conv", "stride")) == f"{file}:4"
    assert document.where(("loss", "cross_entropy", "label_smoothing")) == f"{file}:13"
    assert document.where(("metrics", 0)) == str(file)
    assert document.where(()) == str(file)


def test_where_of_a_section_that_only_overrides_make(config):
    document = config("model: [relu]\n")
    overridden(document, "train.clip=-1")
    assert document.where(("train", "clip")) == "override train.clip=-1"
    assert document.where(("train",)) == "override train.clip=-1"


def test_what_an_override_replaced_has_no_place_any_more(config):
    document, text = config(), "model=[{conv: {features: 0, kernel: 3}}]"
    overridden(document, text)
    assert document.where(("model", 0, "conv", "features")) == f"override {text}"


def test_an_override_that_a_later_one_replaced_is_not_blamed(config):
    document = config()
    overridden(document, "train.clip=1.0", "train={clip: -1}")
    assert document.where(("train", "clip")) == "override train={clip: -1}"


def test_without_a_file_a_document_has_no_place():
    assert Document({"seed": 0}).where(("seed",)) == ""


# ---------------------------------------------------------------- writing


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """What comes back of a tree that is written to a file and read."""
    file = tmp_path_factory.mktemp("written") / "config.yaml"

    def round_trip(tree, head=()):
        file.write_text(write(tree, head), encoding="utf-8")
        return read(file).tree

    return round_trip


SPECIAL = [
    "yes", "null", "~", "true", "1", "1e-3", "0x10", ".nan", "2013-01-01", "100%", "1 epoch", "*/kernel",
    "<<", "=", "- a", "? a", "a: b", "# a", "!a", "&a", "@a", "`a", "%a", "'", '"', "{", "[", "---",
    "...", "", " ", "a ", "\n", "a\nb", "\ta", "é", "\x00", "\u2028", "\ufeff",
]  # fmt: skip
characters = st.characters(codec="utf-8", exclude_characters="\x85")  # see the test below
words = st.text(characters, max_size=12) | st.sampled_from(SPECIAL)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | words
trees = st.dictionaries(
    words,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(trees)
def test_what_is_written_reads_back(again, tree):
    assert repr(again(tree)) == repr(tree)  # repr tells 1 from True and from 1.0, and -0.0 from 0.0


def test_a_next_line_character_reads_back(again):
    tree = {"name": "a\x85b"}
    assert again(tree) == tree


def test_a_real_config_reads_back_with_its_values(config, again):
    tree = overridden(config(), "optimizer.adamw.learning_rate=1e-5", "data.path=/a/" + "long" * 60)
    assert again(tree) == tree


def test_null_is_written_as_a_word():
    assert write({"clip": None, "model": [None]}) == "clip: null\nmodel:\n- null\n"


def test_equal_parts_are_written_out_without_aliases(again):
    layer = {"conv": {"features": 8, "kernel": 3}}
    text = write({"model": [layer, layer]})
    assert "&" not in text
    assert "*" not in text
    assert again({"model": [layer, layer]}) == {"model": [layer, layer]}


def test_the_head_is_comment_lines(again):
    text = write({"seed": 0}, head=("resolved from a.yaml", "seed=0"))
    assert text == "# resolved from a.yaml\n# seed=0\nseed: 0\n"
    assert again({"seed": 0}, head=("resolved from a.yaml", "seed=0")) == {"seed": 0}


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
def test_an_override_of_several_lines_stays_in_the_head(again, newline):
    assert again({"seed": 0}, head=(f"model=[relu,{newline}dense: 3]",)) == {"seed": 0}


@pytest.mark.parametrize(
    "text", ["a" + ".a" * 100 + "=1", "a" + ".a" * 5000 + "=1", "a.a.seed=" + "[" * 97 + "]" * 97]
)
def test_an_override_leads_no_deeper_than_a_config(text):
    document = Document({})
    with pytest.raises(ConfigError, match=r"^override .*:1: expected at most 100 levels of nesting$"):
        override(document, [text], lambda name: None)
    override(document, ["a" + ".a" * 90 + "=1"], lambda name: None)
    assert document.tree["a"]["a"]["a"]
