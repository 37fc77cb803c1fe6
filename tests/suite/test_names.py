"""Room 1: what models are called in node ids, tables and progress."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_boobench.suite.names import list_short_names, shorten


@pytest.mark.parametrize(
    ("models", "short"),
    [
        (["qwen3-8b"], ["qwen3-8b"]),
        (["org/Qwen3:Q4_K_M"], ["org/Qwen3:Q4_K_M"]),
        (["/root/.cache/models/tiny-l1.v1.gguf"], ["tiny-l1.v1"]),
        (["/models/Qwen2-7B"], ["Qwen2-7B"]),
        (["/models/Qwen2-7B/"], ["Qwen2-7B"]),
        (["qwen.GGUF"], ["qwen"]),
        (["models/qwen.gguf"], ["qwen"]),
        (["./qwen"], ["qwen"]),
        ([r"C:\models\x.gguf"], ["x"]),
        ([r"models\x"], ["x"]),
        (["D:/models/x.gguf"], ["x"]),
        (["/a/x.gguf", "/b/x.gguf", "/b/y.gguf"], ["a/x", "b/x", "y"]),
        ([r"C:\a\x.gguf", r"C:\b\x.gguf"], ["a/x", "b/x"]),
        (["/1/a/x.gguf", "/2/a/x.gguf", "/2/b/x.gguf"], ["1/a/x", "2/a/x", "b/x"]),
        (["x", "/models/x.gguf"], ["x", "models/x"]),
        (["/x.gguf", "/models/x.gguf"], ["x", "models/x"]),
        (["/m/x.gguf", "/m/x"], ["m/x~1", "m/x~2"]),
        (["a[b]"], ["a(b)"]),
        (["a[b]", "a(b)"], ["a(b)~1", "a(b)~2"]),
        (["org::model"], ["org:model"]),
        (["/models/a[1]::b:.gguf"], ["a(1):b"]),
        (["setup_method"], ["setup_method~1"]),
        (["/models/setup.gguf"], ["models/setup"]),
        (["/"], ["/"]),
        (["::"], ["model"]),
        ([".gguf"], [".gguf"]),
    ],
)
def test_short_names(models: list[str], short: list[str]) -> None:
    assert list(shorten(models).items()) == list(zip(models, short, strict=True))


@given(st.lists(st.text(st.sampled_from("ab/\\:[].~gu"), min_size=1, max_size=12), unique=True))
def test_each_model_has_a_name_of_its_own_that_a_node_id_can_carry(models: list[str]) -> None:
    short = shorten(models)
    assert list(short) == models
    assert len(set(short.values())) == len(models)
    for name in short.values():
        assert not {"[", "]"} & set(name)
        assert "::" not in name
        assert name.strip(":") == name


def test_a_node_ids_name_is_one_of_the_models() -> None:
    assert list(list_short_names("/models/a/x.gguf")) == ["x", "a/x", "models/a/x"]
    assert list(list_short_names("org/x")) == ["org/x"]
