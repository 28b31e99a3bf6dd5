"""The book of fresh workloads: until a document decides about them."""

from __future__ import annotations

from agent.mesh.fresh import FreshWorkloads
from zones.names import EnvironmentId

ONE, OTHER = EnvironmentId("e1"), EnvironmentId("e2")


def test_a_workload_is_fresh_until_a_document_of_its_revision_is_published() -> None:
    fresh = FreshWorkloads()
    fresh.add("rail1", ONE, 5)
    fresh.remove_published(ONE, 4)
    assert "rail1" in fresh
    fresh.remove_published(ONE, 5)
    assert "rail1" not in fresh


def test_a_newer_document_decides_too() -> None:
    fresh = FreshWorkloads()
    fresh.add("rail1", ONE, 5)
    fresh.remove_published(ONE, 9)
    assert "rail1" not in fresh


def test_the_document_of_another_environment_decides_nothing() -> None:
    fresh = FreshWorkloads()
    fresh.add("rail1", ONE, 5)
    fresh.remove_published(OTHER, 9)
    fresh.remove_all(OTHER)
    assert "rail1" in fresh


def test_a_workload_that_is_not_committed_yet_is_fresh_until_its_attach_has_failed() -> None:
    fresh = FreshWorkloads()
    with fresh.uncommitted("rail1", ONE):
        fresh.remove_published(ONE, 1_000_000)
        fresh.remove_all(ONE)  # this host's last member of it has gone: the workload will be the next one
        assert "rail1" in fresh
    assert "rail1" not in fresh


def test_a_workload_that_is_committed_stays_fresh_until_its_document_is_published() -> None:
    fresh = FreshWorkloads()
    with fresh.uncommitted("rail1", ONE):
        fresh.add("rail1", ONE, 5)
    assert "rail1" in fresh
    fresh.remove_published(ONE, 5)
    assert "rail1" not in fresh


def test_the_workloads_of_an_environment_that_is_gone_are_not_fresh() -> None:
    fresh = FreshWorkloads()
    fresh.add("rail1", ONE, 5)
    fresh.add("rail2", OTHER, 1)
    fresh.remove_all(ONE)
    assert "rail1" not in fresh
    assert "rail2" in fresh
