"""Schedules in the words of EventBridge."""

from infra.clouds.aws.timer import cron
from infra.plan.schedule import Wall


def test_one_of_the_two_days_is_a_question_mark() -> None:
    at = Wall(minute=5, hour=2, weekdays=("mon", "sun"))

    assert cron(at) == "cron(5 2 ? * MON,SUN *)"
