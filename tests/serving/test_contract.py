from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from coverslip.models import ModelKind, find_model
from coverslip_serving import Client
from coverslip_serving.stubs import compile_protos, generate
from tests.paths import ROOT
from tests.serving.conftest import repeat_frames, running


def described(tmp_path):
    target = tmp_path / "set"
    assert compile_protos(ROOT, ["--include_source_info", f"--descriptor_set_out={target}"]) == 0
    return descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file


def test_everything_in_the_contract_is_described(tmp_path):
    # Fields 4 to 6 of a file are messages, enumerations and services; 2, 3 and 8 are what is inside
    # them.
    undescribed = []
    for file in described(tmp_path):
        for place in file.source_code_info.location:
            path = list(place.path)
            named = (
                len(path) % 2 == 0
                and path[:1] in ([4], [5], [6])
                and all(kind in (2, 3, 8) for kind in path[2::2])
            )
            if named and not place.leading_comments.strip():
                undescribed.append((file.name, path))
    assert not undescribed


def test_names_keep_the_usual_rules(tmp_path):
    for file in described(tmp_path):
        assert file.package == ".".join(Path(file.name).parent.parts) and re.search(
            r"\.v\d+$", file.package
        )
        for message in file.message_type:
            assert re.fullmatch(r"([A-Z][a-z0-9]*)+", message.name)
            assert all(
                re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field.name) for field in message.field
            )
        for enumeration in file.enum_type:
            assert all(
                value.name.startswith(f"{enumeration.name.upper()}_") for value in enumeration.value
            )
            assert enumeration.value[0].name.endswith("_UNSPECIFIED")
        for service in file.service:
            assert service.name.endswith("Service")
            for method in service.method:
                assert method.input_type.endswith(
                    f".{method.name}Request"
                ) and method.output_type.endswith(f".{method.name}Response")


def test_the_stubs_that_are_imported_are_those_of_the_contract(tmp_path):
    generated = {path.name: path.read_text() for path in generate(ROOT, tmp_path)}
    here = ROOT / "serving" / "coverslip_serving" / "_stubs"
    assert generated == {name: (here / name).read_text() for name in generated}


@pytest.mark.slow
def test_the_gateway_needs_no_tensorflow():
    with_tensorflow = {"model_server", "saved_models"}
    names = {path.stem for path in (ROOT / "serving" / "coverslip_serving").glob("*.py")}
    assert {"gateway", "tf_serving", "client", *with_tensorflow} <= names
    modules = ", ".join(f"coverslip_serving.{name}" for name in names - with_tensorflow)
    program = f"import sys, {modules}; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_model_s_contract_is_that_of_the_released_model():
    text = (ROOT / "protos/coverslip/v1/model.md").read_text()
    types = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE))
    record = find_model(ModelKind.LITERT).with_name("model.json")
    for name, signature in json.loads(record.read_text())["signatures"].items():
        row = re.search(rf"^\| `{name}` \| (.*) \| (.*) \|$", text, re.MULTILINE)
        assert row
        for stated, tensors in zip(
            row.groups(), (signature["inputs"], signature["outputs"]), strict=True
        ):
            assert set(re.findall(r"`(\w+)`", stated)) == set(tensors)
            for tensor, kind in tensors.items():
                assert types[tensor] == kind["dtype"]


@pytest.mark.slow
def test_the_program_in_the_client_page_works(gateway, cover, identity, tmp_path):
    (program,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/client.md").read_text(), re.DOTALL
    )
    (tmp_path / "cover.dcm").write_bytes(cover.read_bytes())
    identity.write(tmp_path / "archive.key")
    program = program.replace("cs1...", str(identity.recipient)).replace(
        "127.0.0.1:50051", gateway.address()
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 20


def test_every_option_and_code_of_the_operator_page_exists():
    text = (ROOT / "docs/operator.md").read_text()
    from coverslip.cli import _parser
    from coverslip_serving.status import STATUS_OF

    (commands,) = _parser("serve")._subparsers._group_actions
    known = {
        option for action in commands.choices["serve"]._actions for option in action.option_strings
    }
    named = set(re.findall(r"`(--[a-z-]+)[ `]", text))
    assert len(named) > 10 and named <= known
    table = text.split("| `code` in the log")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", table)) - {"code", "unexpected"} <= set(STATUS_OF)


@pytest.mark.slow
def test_an_instance_larger_than_a_message_goes_through_a_series(cover, identity, tmp_path):
    large = repeat_frames(cover, 12, tmp_path / "large.dcm")
    with (
        running("serve", "--listen", "127.0.0.1:0", "--message-mib", "2") as server,
        Client(server.address()) as client,
    ):
        (stego,) = client.embed_series([("large", large)], identity.recipient)
        assert stego.report.frames == stego.report.frames_carrying == 12
        (tmp_path / "stego.dcm").write_bytes(stego.instance)
        (result,) = client.extract_series([("stego", tmp_path / "stego.dcm")], identity)
        assert len(result.record) > 20
