"""RabbitMQ configurations are plain data that refuses nonsense; what the client's end computes is checked by hand."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.brokers.rabbitmq.configuration import (
    CLASSIC_CONFIRMS,
    FIRE_AND_FORGET,
    QUORUM_CONFIRMS,
    Classic,
    Quorum,
    RabbitMQ,
    defaults,
)
from harness.brokers.rabbitmq.confirms import Confirms
from harness.brokers.rabbitmq.errors import DEFINITE, outcome_of
from harness.brokers.rabbitmq.frames import PublishFrames, ack_frame
from harness.brokers.rabbitmq.management import leader_of, read_replicas
from harness.brokers.rabbitmq.metrics import parse_counters
from harness.claims.claims import DIRECTORY, claims_for, entries
from harness.errors import Refused
from harness.operation import AckKind, Outcome
from harness.plain import from_plain, to_plain

# ---- records ---------------------------------------------------------------------------------------------------------


def test_names_begin_with_the_family_and_are_unique():
    assert [configuration.name for configuration in defaults()] == [
        "rabbitmq-fire-and-forget",
        "rabbitmq-classic-confirms",
        "rabbitmq-quorum-confirms",
    ]
    assert {configuration.family for configuration in defaults()} == {"rabbitmq"}
    assert RabbitMQ("rabbitmq-x").name == "rabbitmq-x"


@pytest.mark.parametrize("configuration", defaults(), ids=lambda configuration: configuration.name)
def test_is_frozen_hashable_and_comes_back_from_json(configuration):
    assert from_plain(RabbitMQ, to_plain(configuration)) == configuration
    hash(configuration)
    with pytest.raises(dataclasses.FrozenInstanceError):
        configuration.confirms = False


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RabbitMQ("Upper"), "name='rabbitmq-Upper'"),
        (lambda: RabbitMQ("x", members=2), "members=2 (1, 3 or 5)"),
        (lambda: RabbitMQ("x", acknowledge="maybe"), "acknowledge='maybe'"),
        (lambda: RabbitMQ("x", heartbeat_s=0), "heartbeat_s=0"),
        (lambda: RabbitMQ("x", version="latest"), "version='latest'"),
        (lambda: RabbitMQ("x", queue="orders"), "queue='orders'"),
        (
            lambda: RabbitMQ("x", queue=Classic(length_max=9, overflow="reject-publish"), confirms=False),
            "overflow='reject-publish'",
        ),
        (lambda: Classic(overflow="reject-publish"), "nothing overflows without length_max"),
        (lambda: Classic(length_max=0), "length_max=0"),
        (lambda: Quorum(delivery_limit=0), "delivery_limit=0"),
        (lambda: Quorum(consumer_disconnected_timeout_s=0), "consumer_disconnected_timeout_s=0"),
    ],
)
def test_nonsense_is_refused_at_birth_with_its_value(make, says):
    with pytest.raises(Refused) as refused:
        make()
    assert says in str(refused.value)


def test_a_quorum_queue_that_is_not_durable_cannot_be_said():
    with pytest.raises(TypeError):
        Quorum(durable=False)
    assert Quorum().durable


def test_single_nodes_are_equal_so_that_configurations_share_a_warm_broker():
    singles = [FIRE_AND_FORGET, CLASSIC_CONFIRMS, RabbitMQ("x", queue=Quorum(), confirms=False)]
    assert len({tuple(spec.key() for spec in configuration.nodes()) for configuration in singles}) == 1
    assert RabbitMQ("x", heartbeat_s=9).nodes() != CLASSIC_CONFIRMS.nodes()


def test_a_cluster_names_all_its_members_on_every_node_and_has_one_cookie():
    specs = QUORUM_CONFIRMS.nodes()
    assert [spec.name for spec in specs] == ["rabbit-1", "rabbit-2", "rabbit-3"]
    for spec in specs:
        conf = spec.files["/etc/rabbitmq/rabbitmq.conf"]
        for number, other in enumerate(specs, 1):
            assert f"classic_config.nodes.{number} = {other.name}@<<host:{other.name}>>" in conf
        assert spec.environment["RABBITMQ_NODENAME"] == f"{spec.name}@<<host:{spec.name}>>"
    assert len({spec.files["/var/lib/rabbitmq/.erlang.cookie"] for spec in specs}) == 1


def test_no_key_that_an_older_version_would_not_know_is_in_the_conf_file():
    for version in (None, "3.10.8", "4.0.5"):
        for spec in RabbitMQ("x", version=version).nodes():
            assert "deprecated_features" not in spec.files["/etc/rabbitmq/rabbitmq.conf"]
            assert "transient_nonexcl_queues => true" in spec.files["/etc/rabbitmq/advanced.config"]


def test_promises_say_what_clients_may_believe():
    weak, classic, quorum = (configuration.promise() for configuration in defaults())
    assert (weak.confirms, weak.ack) == (False, AckKind.AUTOMATIC)
    assert (classic.confirms, classic.ack, classic.policies) == (True, AckKind.SENT, ())
    assert (quorum.confirms, quorum.ack, quorum.policies) == (True, AckKind.SENT, ("delivery-limit",))
    assert {promise.drain for promise in (weak, classic, quorum)} == {"declare"}
    assert weak.settings["mandatory"] is False, "without confirms nothing tells that no return will come"
    limited = RabbitMQ("x", queue=Classic(length_max=5)).promise()
    assert limited.policies == ("max-length drop-head",)


@pytest.mark.parametrize(
    ("configuration", "horizon_s"),
    [
        (CLASSIC_CONFIRMS, 6.0),
        (QUORUM_CONFIRMS, 6.0),
        (RabbitMQ("x", queue=Quorum(consumer_disconnected_timeout_s=7.0)), 7.0),
        (RabbitMQ("x", queue=Quorum(consumer_disconnected_timeout_s=None)), 60.0),
        (RabbitMQ("x", queue=Quorum(consumer_disconnected_timeout_s=None), version="4.2.1"), 6.0),
        (RabbitMQ("x", queue=Classic(), heartbeat_s=10), 30.0),
    ],
)
def test_the_redelivery_horizon_is_three_heartbeats_or_the_quorum_queues_own_timeout(configuration, horizon_s):
    assert configuration.redelivery_horizon_s == horizon_s
    assert configuration.promise().redelivery_horizon_s == horizon_s


def test_records_load_no_driver():
    code = (
        "import sys, harness.brokers.rabbitmq.configuration;"
        "print({'pika', 'docker', 'requests', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_a_clients_end_loads_no_driver_but_its_own():
    code = (
        "import sys, harness.brokers.rabbitmq.connection;"
        "print({'nats', 'docker', 'requests', 'numpy', 'pydantic', 'http.client'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


# ---- claims ----------------------------------------------------------------------------------------------------------


def test_each_default_configuration_has_its_claims_and_no_other():
    claimed = {
        configuration.name: {claim.guarantee for claim in claims_for(configuration.name, "4.3.6", ["kill_leader"])}
        for configuration in defaults()
    }
    assert claimed == {
        "rabbitmq-fire-and-forget": {"at_most_once", "ordered"},
        "rabbitmq-classic-confirms": {"at_least_once", "ordered"},
        "rabbitmq-quorum-confirms": {"at_least_once", "ordered"},
    }


def test_claims_name_configurations_that_exist():
    names = {configuration.name for configuration in defaults()}
    ours = [entry for entry in entries(DIRECTORY) if entry.where.startswith("rabbitmq.toml")]
    assert {name for entry in ours for name in entry.configurations} == names


def test_no_page_promises_a_classic_queue_to_survive_a_power_failure():
    assert "at_least_once" not in {
        claim.guarantee for claim in claims_for(CLASSIC_CONFIRMS.name, "4.3.6", ["power_loss"])
    }
    for fault in ("pause_leader", "partition_leader"):
        assert "at_least_once" in {claim.guarantee for claim in claims_for(CLASSIC_CONFIRMS.name, "4.3.6", [fault])}


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_every_definite_error_has_a_reason_and_a_proof():
    assert all(definite.reason and definite.proof for definite in DEFINITE)


@pytest.mark.parametrize(
    ("code", "refuses", "outcome"),
    [
        ("312", False, Outcome.FAIL),
        ("nack", True, Outcome.FAIL),
        ("nack", False, Outcome.INFO),
        ("313", False, Outcome.INFO),
        ("541", True, Outcome.INFO),
        ("", False, Outcome.INFO),
    ],
)
def test_only_what_is_proved_is_a_failure(code, refuses, outcome):
    assert outcome_of(code, refuses=refuses) is outcome


def told(confirms: Confirms, *answers: tuple[int, bool, bool]) -> list[tuple[int, int, str, str]]:
    return [
        (first, last, outcome.name, error)
        for tag, multiple, ack in answers
        for first, last, outcome, error in confirms.answer(tag, multiple=multiple, ack=ack)
    ]


def handed(count: int, *, refuses: bool = False) -> Confirms:
    confirms = Confirms(refuses=refuses)
    for tag in range(1, count + 1):
        confirms.handed(tag)
    return confirms


def test_an_answer_to_all_so_far_is_one_range():
    assert told(handed(9), (5, True, True), (9, True, True)) == [(1, 5, "OK", ""), (6, 9, "OK", "")]


def test_single_answers_out_of_order_are_told_once_and_left_out_of_later_ranges():
    assert told(handed(9), (3, False, True), (6, False, True), (8, True, True), (9, True, True)) == [
        (3, 3, "OK", ""),
        (6, 6, "OK", ""),
        (1, 2, "OK", ""),
        (4, 5, "OK", ""),
        (7, 8, "OK", ""),
        (9, 9, "OK", ""),
    ]


def test_an_answer_that_comes_again_is_not_told_again():
    assert told(handed(3), (2, True, True), (2, True, True), (1, False, True), (2, False, False)) == [(1, 2, "OK", "")]
    assert told(handed(3), (3, False, True), (3, False, True)) == [(3, 3, "OK", "")]


def test_a_return_makes_the_ack_that_follows_a_failure_of_that_message_alone():
    confirms = handed(5)
    confirms.returned(3, "312")
    assert told(confirms, (5, True, True)) == [
        (1, 1, "OK", ""),
        (2, 2, "OK", ""),
        (3, 3, "FAIL", "312"),
        (4, 4, "OK", ""),
        (5, 5, "OK", ""),
    ]


def test_a_nack_is_doubt_unless_the_only_queue_refuses():
    assert told(handed(3), (2, True, False)) == [(1, 2, "INFO", "nack")]
    assert told(handed(3, refuses=True), (2, True, False)) == [(1, 2, "FAIL", "nack")]


def test_a_clients_tags_may_leave_some_out():
    confirms = Confirms(refuses=False)
    for tag in (1, 2, 5, 6):
        confirms.handed(tag)
    assert told(confirms, (4, True, True)) == [(1, 1, "OK", ""), (2, 2, "OK", ""), (5, 5, "OK", ""), (6, 6, "OK", "")]


def test_delivery_tag_zero_stands_for_all_so_far():
    assert told(handed(4), (0, True, True)) == [(1, 4, "OK", "")]


@given(
    count=st.integers(1, 40),
    answers=st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.booleans()), max_size=40),
    returned=st.sets(st.integers(1, 40), max_size=5),
)
def test_whatever_the_broker_answers_each_publish_is_told_what_its_first_answer_said(count, answers, returned):
    confirms = handed(count)
    for tag in returned:
        confirms.returned(tag, "312")
    expected: dict[int, str] = {}
    got: dict[int, str] = {}
    for tag, multiple, ack in answers:
        tag = min(tag, count)
        for one in range(1 if multiple else tag, tag + 1):
            expected.setdefault(one, "FAIL" if one in returned else "OK" if ack else "INFO")
        for first, last, outcome, _ in confirms.answer(tag, multiple=multiple, ack=ack):
            for one in range(first, last + 1):
                assert one not in got
                got[one] = outcome.name
        assert got == expected


# ---- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("mandatory", [True, False])
@pytest.mark.parametrize("body", [b"x", b"y" * 5000])
def test_frames_are_the_bytes_that_the_library_would_make(persistent, mandatory, body):
    from pika import frame, spec

    properties = spec.BasicProperties(
        delivery_mode=2 if persistent else 1, message_id="0000000042" if mandatory else None
    )
    publish = spec.Basic.Publish(exchange="", routing_key="assay.cell", mandatory=mandatory)
    expected = (
        frame.Method(7, publish).marshal()
        + frame.Header(7, len(body), properties).marshal()
        + frame.Body(7, body).marshal()
    )
    assert PublishFrames(7, "assay.cell", persistent=persistent, mandatory=mandatory).make(body, 42) == expected
    assert ack_frame(7, 2**40) == frame.Method(7, spec.Basic.Ack(delivery_tag=2**40)).marshal()


# ---- what the broker says --------------------------------------------------------------------------------------------


def replica(node: str, state: str, term: object = 3) -> dict[str, object]:
    return {"Node Name": node, "Raft State": state, "Term": term, "Last Written": 9, "Commit Index": 9}


def test_of_two_that_claim_to_lead_the_later_term_leads():
    replicas = read_replicas([replica("a", "leader", 3), replica("b", "leader", 4), replica("c", "follower", 4)])
    leader = leader_of(replicas)
    assert leader is not None
    assert leader.node == "b"


def test_a_dead_replica_leads_nothing_and_has_no_numbers():
    dead = {"Node Name": "a", "Raft State": "noconnection", "Term": "", "Last Written": "", "Commit Index": ""}
    replicas = read_replicas([dead, replica("b", "follower")])
    assert leader_of(replicas) is None
    assert replicas[0].written == -1


@pytest.mark.parametrize("body", [None, {"error": "not_found"}, []])
def test_a_queue_that_is_not_there_has_no_replicas(body):
    assert read_replicas(body) == ()


def test_counters_are_added_over_protocols_and_types_of_queue():
    text = "\n".join(
        [
            "# TYPE rabbitmq_global_messages_delivered_total counter",
            'rabbitmq_global_messages_delivered_total{protocol="amqp091",queue_type="rabbit_classic_queue"} 2.0e3',
            'rabbitmq_global_messages_delivered_total{protocol="amqp091",queue_type="rabbit_quorum_queue"} 5',
            'rabbitmq_global_messages_delivered_get_auto_ack_total{protocol="amqp091"} 7.0',
            'rabbitmq_global_messages_dead_lettered_delivery_limit_total{dead_letter_strategy="disabled"} 3.0',
            "rabbitmq_queue_messages_ready 9",
        ]
    )
    assert parse_counters(text) == {"delivered": 2005, "dropped_by_delivery_limit": 3}
