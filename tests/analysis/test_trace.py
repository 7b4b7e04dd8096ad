"""fnn.analysis.trace: the profile is a file that Perfetto opens, and it reads like the model."""

from __future__ import annotations

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.analysis.trace import TraceError, readable, scopes, trace

MODEL = fnn.serial(fnn.conv(4, 3), fnn.tanh, fnn.residual(fnn.conv(4, 3)), fnn.flatten, head=fnn.dense(2))


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """What is in the trace of a gradient, and the compiled program."""
    x = jax.random.normal(jax.random.key(1), (4, 6, 6, 1))
    params, state = MODEL.init(jax.random.key(0), x)
    gradient = jax.grad(lambda params, x: (MODEL.apply(params, state, x)[0] ** 2).sum())
    program = jax.jit(gradient).lower(params, x).compile()
    folder = tmp_path_factory.mktemp("traces") / "new" / "folder"
    file = trace(lambda: jax.block_until_ready(program(params, x)), folder, program)
    assert file.name == "perfetto_trace.json.gz"
    assert file.is_relative_to(folder)
    assert list(file.parent.glob("*.xplane.pb")), "TensorBoard reads another file"
    content = json.loads(gzip.decompress(file.read_bytes()))
    return [event for event in content["traceEvents"] if event.get("ph") == "X"]


def test_the_work_of_both_passes_is_named_after_the_layers(events):
    names = {event["name"] for event in events}
    for layer in ("conv1", "residual1/body", "head"):
        for direction in ("forward", "backward"):
            found = [name for name in names if name.startswith(f"{direction}/{layer}/")]
            assert found, f"nothing of {direction}/{layer} in {sorted(names)}"


def test_a_named_event_keeps_its_time_and_the_name_that_xla_gave_it(events):
    named = [event for event in events if event["name"].startswith("forward/conv1/")]
    for event in named:
        assert event["dur"] >= 0
        assert event["ts"] >= 0
        assert event["args"]["hlo_op"]
        assert "jvp(conv1)/" in event["args"]["op_name"]


def test_the_marks_of_the_tracer_are_left_out(events):
    assert not [
        event["name"] for event in events if event["name"].startswith(("end: ", "ThreadpoolListener"))
    ]


def test_every_instruction_in_the_text_has_the_scope_that_xla_noted():
    def function(x):
        with jax.named_scope("outer"), jax.named_scope("inner"):
            return jnp.sin(x)

    found = scopes(jax.jit(function).lower(jnp.ones(3)).compile().as_text())
    assert "jit(function)/outer/inner/sin" in found.values()


def test_what_was_fused_has_the_scope_of_its_last_part_where_it_has_none_of_its_own():
    text = """\
HloModule jit_f, is_scheduled=true

%fused_computation.2 (param_0: f32[2]) -> f32[2] {
  %param_0 = f32[2]{0} parameter(0)
  %multiply.1 = f32[2]{0} multiply(%param_0, %param_0), metadata={op_name="jit(f)/conv1/mul" stack_frame_id=1}
  ROOT %copy.3 = f32[2]{0} copy(%multiply.1)
}

ENTRY %main.4 (x: f32[2]) -> f32[2] {
  %x = f32[2]{0} parameter(0), metadata={op_name="p[\\'head\\']"}
  %mine = f32[2]{0} fusion(%x), kind=kLoop, calls=%fused_computation.2, metadata={op_name="jit(f)/head/add"}
  %of.7 = f32[2]{0} fusion(%mine), kind=kLoop, calls=%fused_computation.2, backend_config={"a":"op_names"}
  ROOT %unknown = f32[2]{0} copy(%of.7)
}
"""
    assert scopes(text) == {
        "multiply.1": "jit(f)/conv1/mul",
        "x": "p['head']",
        "mine": "jit(f)/head/add",
        "of.7": "jit(f)/conv1/mul",
    }


@pytest.mark.parametrize(
    ("scope", "text"),
    [
        ("jit(step)/jvp(conv1)/conv_general_dilated", "forward/conv1/conv_general_dilated"),
        ("jit(step)/transpose(jvp(conv1))/rev", "backward/conv1/rev"),
        ("jit(step)/jvp(residual1)/body/relu1/jit(relu)/max", "forward/residual1/body/relu1/max"),
        ("jit(step)/jvp()/mul", "forward/mul"),
        ("jit(step)/vmap(jvp(head))/add", "forward/head/add"),
        ("jit(step)/head/add", "head/add"),
        ("jit(step)/mul", "mul"),
        ("params['head']['bias']", "params['head']['bias']"),
    ],
)
def test_a_scope_is_read_as_a_path_after_its_pass(scope, text):
    assert readable(scope) == text


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match=r"file: cannot be made: File exists"):
        trace(lambda: None, tmp_path / "file", None)
