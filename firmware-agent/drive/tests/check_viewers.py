#!/usr/bin/env python3
"""Reads drives or evidence files with the public MCAP readers for Python, which share nothing with our code, and asserts
that every message of every channel decodes: ROS 2 (CDR), protobuf with H.264 access units or JPEG, JSON; and the
JSON attachments. Not part of cargo test. To run it:

    python3 -m venv venv && venv/bin/pip install mcap mcap-ros2-support mcap-protobuf-support
    venv/bin/python firmware-agent/drive/tests/check_viewers.py DRIVE...

Exit code 1 at the first file that does not decode.
"""
import json
import sys

from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory as Protobuf
from mcap_ros2.decoder import DecoderFactory as Ros2


def check_message(schema, channel, message, decoded):
    where = f"{channel.topic} at {message.log_time} ns"
    if channel.message_encoding == "json":
        assert isinstance(json.loads(message.data), dict), f"{where}: not a JSON object"
        return
    assert decoded is not None, f"{where}: not decoded"
    if schema.name == "foxglove.CompressedVideo":
        assert decoded.format in ("h264", "h265"), f"{where}: format {decoded.format}"
        assert decoded.data[:3] == b"\0\0\1" or decoded.data[:4] == b"\0\0\0\1", f"{where}: no start code"
    elif schema.name == "foxglove.CompressedImage":
        assert decoded.format == "jpeg", f"{where}: format {decoded.format}"
        assert decoded.data[:2] == b"\xff\xd8" and decoded.data[-2:] == b"\xff\xd9", f"{where}: no whole JPEG"
    if channel.message_encoding == "cdr":
        stamp = decoded.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == message.log_time, f"{where}: another stamp"
    elif channel.message_encoding == "protobuf":
        stamp = decoded.timestamp
        assert stamp.seconds * 10**9 + stamp.nanos == message.log_time, f"{where}: another stamp"


def decoder_for(decoders, schema, channel):
    if channel.id not in decoders:
        made = [f.decoder_for(channel.message_encoding, schema) for f in (Ros2(), Protobuf())]
        decoders[channel.id] = next((m for m in made if m), None)
    return decoders[channel.id]


def check(path):
    counts, decoders = {}, {}
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        for schema, channel, message in reader.iter_messages():
            decode = decoder_for(decoders, schema, channel)
            check_message(schema, channel, message, decode(message.data) if decode else None)
            key = (channel.topic, schema.name, channel.message_encoding)
            counts[key] = counts.get(key, 0) + 1
        summary = reader.get_summary()
        assert summary.statistics.message_count == sum(counts.values()), f"{path}: the index counts otherwise"
        assert {c.topic for c in summary.channels.values()} == {t for t, _, _ in counts}, f"{path}: an empty channel"
        attachments = 0
        for attachment in reader.iter_attachments():
            attachments += 1
            if attachment.media_type == "application/json":
                json.loads(attachment.data)
    assert counts, f"{path}: no message"
    for (topic, name, encoding), n in sorted(counts.items()):
        print(f"{path}: {topic} {name} {encoding} {n}")
    print(f"{path}: {attachments} attachments")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for argument in sys.argv[1:]:
        check(argument)
