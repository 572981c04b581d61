"""NATS configurations: plain data that refuses nonsense, shares nodes where it can, and promises what it configures."""

from __future__ import annotations

import dataclasses
import fnmatch
import tomllib
from pathlib import Path

import pytest

import harness.claims
from harness.brokers.nats.audit import is_owed
from harness.brokers.nats.configuration import (
    CORE,
    JETSTREAM_R1,
    JETSTREAM_R1_CONFIRMED,
    JETSTREAM_R1_NEW_ID,
    JETSTREAM_R1_WORKQUEUE,
    JETSTREAM_R3_EXACTLY_ONCE,
    JetStream,
    Nats,
    defaults,
)
from harness.brokers.nats.connection import read_ack_subject
from harness.brokers.nats.errors import DEFINITE, Answer, read_answer
from harness.errors import Refused
from harness.guarantee import GUARANTEES
from harness.operation import AckKind, Outcome
from harness.plain import from_plain, to_plain

EVERY = (*defaults(), JETSTREAM_R1_CONFIRMED, JETSTREAM_R1_WORKQUEUE)


def test_names_begin_with_the_family_and_are_unique():
    names = [configuration.name for configuration in EVERY]
    assert len(set(names)) == len(names)
    assert all(name.startswith("nats-") for name in names)
    assert Nats("nats-core-2").name == "nats-core-2", "a name that is complete stays as it is"


@pytest.mark.parametrize("configuration", EVERY, ids=str)
def test_is_frozen_hashable_and_comes_back_from_json(configuration):
    assert from_plain(Nats, to_plain(configuration)) == configuration
    hash(configuration)
    with pytest.raises(dataclasses.FrozenInstanceError):
        configuration.confirms = False


def test_single_nodes_are_equal_so_that_all_share_one_warm_server():
    singles = [configuration for configuration in EVERY if configuration.members == 1]
    assert len({tuple(spec.key() for spec in each.nodes()) for each in singles}) == 1


def test_a_setting_of_the_server_makes_another_node():
    always = Nats("synced", jetstream=JetStream(sync_interval="always"))
    assert always.nodes() != JETSTREAM_R1.nodes()
    assert "sync_interval: always" in next(iter(always.nodes()[0].files.values()))


def test_clusters_route_to_each_other_and_advertise_nothing():
    first, second, third = JETSTREAM_R3_EXACTLY_ONCE.nodes()
    text = next(iter(second.files.values()))
    assert "no_advertise: true" in text
    assert f"<<address:{first.name}:cluster>>" in text
    assert f"<<address:{third.name}:cluster>>" in text
    routes = text[text.index("routes:") :]
    assert f"<<address:{second.name}:cluster>>" not in routes
    assert f'advertise: "<<address:{second.name}:cluster>>"' in text
    assert set(second.services) == {"client", "cluster", "monitor"}


def test_clusters_alone_have_a_user_of_the_system_account_and_no_other():
    for configuration in EVERY:
        for spec in configuration.nodes():
            text = next(iter(spec.files.values()))
            assert text.count("user:") == text.count("$SYS { users:") == (configuration.members > 1)


@pytest.mark.parametrize(
    ("wrong", "named"),
    {
        "core NATS answers no publish": (
            lambda: Nats("x", jetstream=None, confirms=True, acknowledge="none"),
            "confirms=True",
        ),
        "core NATS knows no acknowledgement": (
            lambda: Nats("x", jetstream=None, confirms=False, acknowledge="sent"),
            "acknowledge='sent'",
        ),
        "more replicas than members": (lambda: Nats("x", jetstream=JetStream(replicas=3)), "replicas=3"),
        "an even cluster": (lambda: Nats("x", members=2), "members=2"),
        "a retry without a limit": (lambda: Nats("x", retry="same-id"), "retry_limit=0"),
        "a limit without a retry": (lambda: Nats("x", retry_limit=3), "retry_limit=3"),
        "a retry of what is never answered": (
            lambda: Nats("x", confirms=False, retry="new-id", retry_limit=1),
            "retry='new-id'",
        ),
        "a work queue that is never acknowledged": (
            lambda: Nats("x", jetstream=JetStream(retention="workqueue"), acknowledge="none"),
            "acknowledge='none'",
        ),
        "a name for the shell": (lambda: Nats("Some Name"), "name='nats-Some Name'"),
        "no time to acknowledge": (lambda: JetStream(ack_wait_s=0), "ack_wait_s=0"),
        "an unknown retention": (lambda: JetStream(retention="forever"), "retention='forever'"),
        "no interval": (lambda: JetStream(sync_interval="often"), "sync_interval='often'"),
    }.values(),
)
def test_refuses_nonsense_at_birth_and_shows_the_value(wrong, named):
    with pytest.raises(Refused, match="brackets") as refused:
        wrong()
    assert named in refused.value.message


def test_promises_what_it_configures():
    core, r1, r3 = CORE.promise(), JETSTREAM_R1.promise(), JETSTREAM_R3_EXACTLY_ONCE.promise()
    assert (core.confirms, core.ack, core.drain, core.stores) == (False, AckKind.AUTOMATIC, "silence", False)
    assert (r1.confirms, r1.ack, r1.drain, r1.stores) == (True, AckKind.SENT, "consumer-info", True)
    assert (r3.ack, r3.retry, r3.pulled) == (AckKind.CONFIRMED, "same-id", True)
    assert JETSTREAM_R1_NEW_ID.promise().retry == "new-id"
    assert r1.redelivery_horizon_s > r1.ack_wait_s, "the server must notice first that the client is gone"
    assert r1.settings["jetstream.max_ack_pending"] == 256
    assert to_plain(r3.settings)


@pytest.mark.parametrize(
    ("body", "headers", "answer"),
    {
        "stored": (b'{"stream":"s","seq":4}', None, Answer(Outcome.OK, 4, False, "")),
        "a duplicate": (b'{"stream":"s","seq":4,"duplicate":true}', None, Answer(Outcome.OK, 4, True, "")),
        "nobody listens": (b"", {"Status": "503"}, Answer(Outcome.FAIL, 0, False, "503")),
        "full, discard new": (
            b'{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}',
            None,
            Answer(Outcome.FAIL, 0, False, "10077"),
        ),
        "503 in a body, without the server's own code, proves nothing": (
            b'{"error":{"code":503,"description":"raft: not leader"}}',
            None,
            Answer(Outcome.INFO, 0, False, "503"),
        ),
        "a store that failed otherwise proves nothing": (
            b'{"error":{"code":503,"err_code":10077,"description":"no space left on device"}}',
            None,
            Answer(Outcome.INFO, 0, False, "10077"),
        ),
        "another copy is in process": (
            b'{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"}}',
            None,
            Answer(Outcome.INFO, 0, False, "10158"),
        ),
        "an error without a number of its own": (
            b'{"error":{"code":500,"description":"raft: not leader"}}',
            None,
            Answer(Outcome.INFO, 0, False, "500"),
        ),
        "an empty body without a status": (b"", None, Answer(Outcome.INFO, 0, False, "empty-answer")),
        "no JSON": (b"{", None, Answer(Outcome.INFO, 0, False, "unreadable-answer")),
        "JSON of another shape": (b"[]", None, Answer(Outcome.INFO, 0, False, "unreadable-answer")),
        "neither error nor sequence": (b"{}", None, Answer(Outcome.INFO, 0, False, "unreadable-answer")),
    }.values(),
)
def test_only_definite_errors_are_failures(body, headers, answer):
    assert read_answer(body, headers) == answer


@pytest.mark.parametrize(
    ("version", "outcome"),
    [((2, 15, 1), Outcome.FAIL), ((2, 12, 0), Outcome.FAIL), ((2, 11, 10), Outcome.INFO), ((), Outcome.INFO)],
)
def test_insufficient_resources_are_definite_of_servers_that_look_before_they_propose(version, outcome):
    body = (
        b'{"error": {"code": 503, "err_code": 10023, "description": "insufficient resources"}, "stream": "s", "seq": 0}'
    )
    assert read_answer(body, None, version) == Answer(outcome, 0, False, "10023")


def test_every_definite_error_has_a_reason_and_a_proof():
    assert all(definite.reason and definite.proof for definite in DEFINITE)


def test_reads_both_forms_of_an_ack_subject():
    assert read_ack_subject("$JS.ACK.stream.group.3.12.40.1700000000000000000.0") == (3, 12)
    assert read_ack_subject("$JS.ACK._.hash.stream.group.3.12.40.1700000000000000000.0.x") == (3, 12)


def test_what_is_owed_is_never_accused_of_being_lost():
    halfway = {"delivered": {"stream_seq": 9}, "ack_floor": {"stream_seq": 4}, "num_ack_pending": 2}
    assert [is_owed(sequence, halfway) for sequence in (4, 5, 9, 10)] == [False, True, True, True]
    settled = {**halfway, "num_ack_pending": 0}
    assert [is_owed(sequence, settled) for sequence in (4, 5, 9, 10)] == [False, False, False, True]


def test_claims_speak_of_configurations_and_guarantees_that_exist():
    text = (Path(harness.claims.__file__).parent / "nats.toml").read_text(encoding="utf-8")
    claims = tomllib.loads(text)["claim"]
    names = {configuration.name for configuration in EVERY}
    claimed = {(name, claim["guarantee"]) for claim in claims for name in claim["configurations"]}
    assert {name for name, _ in claimed} == names
    assert {guarantee for _, guarantee in claimed} <= GUARANTEES.keys()
    assert {guarantee for name, guarantee in claimed if name == "nats-core"} == {"at_most_once"}
    assert {guarantee for name, guarantee in claimed if name == "nats-jetstream-r1-new-id"} == {"at_least_once"}
    for claim in claims:
        in_scope = [
            fault
            for fault in ("nothing", "kill_leader", "pause_leader", "partition_leader", "power_loss")
            if any(fnmatch.fnmatchcase(fault, pattern) for pattern in claim["faults"])
        ]
        assert ("power_loss" in in_scope) == ("nats-core" in claim["configurations"])
        assert "pause_leader" in in_scope
