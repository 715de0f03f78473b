from __future__ import annotations

from outlast.worker.lease import Lease


def test_a_lease_counts_from_the_question_and_is_doubted_before_it_ends() -> None:
    lease = Lease()
    assert lease.state(0) == "none"
    lease.renew(30_000, asked_at=100)
    assert [lease.state(at) for at in (100, 124.9, 125, 128.9, 129, 500)] == ["sure", "sure", "in_doubt", "in_doubt", "over", "over"]
    lease.renew(30_000, asked_at=128)
    assert lease.state(130) == "sure"
    lease.drop()
    assert lease.state(500) == "none"
