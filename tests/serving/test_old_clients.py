"""Clients of release 0.1, whose messages are made from the contract that they were built with."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.seal import seal
from coverslip.deidentification import header
from coverslip.dicom.objects import object_bytes, read_object
from coverslip.pipeline import Binding
from tests.serving.test_contract import described

SERVICE = "/coverslip.v1.CoverslipService/"


@cache
def as_released():
    """The contract's file as release 0.1 had it."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "set"
        words = [sys.executable, "-m", "grpc_tools.protoc", f"-I{here}"]
        subprocess.run([*words, f"--descriptor_set_out={target}", "contract_0_1.proto"], check=True)
        (file,) = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file
    return file


@cache
def old_messages():
    pool = descriptor_pool.DescriptorPool()
    pool.Add(as_released())
    made = message_factory.GetMessageClassesForFiles([as_released().name], pool)
    return {name.rpartition(".")[2]: kind for name, kind in made.items()}


def shape(field):
    return (
        field.name,
        field.type,
        field.type_name,
        field.label,
        field.proto3_optional,
        field.HasField("oneof_index"),
    )


def test_whatever_the_contract_said_it_says_still(tmp_path):
    old = as_released()
    (new,) = (file for file in described(tmp_path) if file.name.endswith("/coverslip.proto"))
    messages = {message.name: message for message in new.message_type}
    for message in old.message_type:
        fields = {field.number: shape(field) for field in messages[message.name].field}
        for field in message.field:
            assert fields[field.number] == shape(field), (message.name, field.name)
    enums = {enum.name: {(v.name, v.number) for v in enum.value} for enum in new.enum_type}
    for enum in old.enum_type:
        assert {(value.name, value.number) for value in enum.value} <= enums[enum.name]
    methods = {str(method) for method in new.service[0].method}
    assert {str(method) for method in old.service[0].method} <= methods
    assert old.package == new.package and old.service[0].name == new.service[0].name


def call(gateway, method, **fields):
    """The answer to an old client's call, as that client reads it."""
    old = old_messages()
    with grpc.insecure_channel(gateway.address()) as channel:
        send = channel.unary_unary(
            SERVICE + method,
            request_serializer=old[f"{method}Request"].SerializeToString,
            response_deserializer=old[f"{method}Response"].FromString,
        )
        return send(old[f"{method}Request"](**fields), timeout=60)


@pytest.mark.slow
def test_an_old_client_embeds_inspects_and_reads(gateway, cover, identity, tmp_path):
    instance, to = cover.read_bytes(), {"recipient": str(identity.recipient)}
    seen = call(gateway, "Inspect", instance=instance)
    assert "default" in [fit.profile for fit in seen.profiles if fit.fits]
    done = call(gateway, "Embed", instance=instance, options=to | {"profile": 2})
    assert done.report.frames_carrying == 1 and done.report.recorded > 20
    found = call(gateway, "Extract", instance=done.instance, options=to)
    assert found.profile == "default" and found.agreement > 10
    assert len(pipeline.open_frame(found.sealed, identity).record) == done.report.recorded


@pytest.mark.slow
def test_a_record_that_an_old_client_sealed_is_embedded_and_names_no_image(
    gateway, cover, identity, tmp_path
):
    original = read_object(cover)
    clean, record, _ = header.deidentify(original.dataset, pipeline.uid_key(identity.recipient))
    sealed = seal(records.encode(record), identity.recipient.public)
    assert sealed[0] == 1
    done = call(
        gateway,
        "Embed",
        instance=object_bytes(original, clean),
        options={"recipient": str(identity.recipient), "sealed": sealed},
    )
    assert done.report.frames_carrying == 1 and done.report.sealed_bytes == len(sealed)
    (tmp_path / "stego.dcm").write_bytes(done.instance)
    found = pipeline.extract(read_object(tmp_path / "stego.dcm"), identity)
    assert found.record == record and found.found.sealed == sealed
    assert found.binding is Binding.NOT_BOUND
