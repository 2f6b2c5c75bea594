"""The kit itself: it finds faults, it cannot be silenced, and it says what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
HEAD = """
    import functools
    import pytest
    from memexllm.storage import MemoryStorage
    from memexllm.testing.storage import StorageConformance
    from tests.storage.broken import *
    from tests.storage.custom import *
"""
BARE = ("-p", "no:asyncio", "-p", "no:hypothesispytest", "-p", "no:timeout", "-p", "no:xdist", "-W", "error")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def kit_on(pytester: pytest.Pytester, body: str, *args: str) -> pytest.RunResult:
    """Run the kit on a class of a user's, in a process of its own with no plugin of ours."""
    pytester.makepyfile(test_mine=f"{HEAD}\n    class TestMine(StorageConformance):\n{body}")
    return pytester.runpytest_subprocess(*BARE, "-rs", *args)


def storage(expression: str) -> str:
    return f"        @pytest.fixture\n        def storage(self, tmp_path):\n            return {expression}\n"


def shared(name: str) -> str:
    """A storage on a file, with the means to open it in another process."""
    opened = f"functools.partial({name}, tmp_path / 'chat.db')"
    return (
        f"        @pytest.fixture\n        def open_storage(self, tmp_path):\n            return {opened}\n"
        f"        @pytest.fixture\n        def storage(self, open_storage):\n            return open_storage()\n"
    )


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (storage("ForgetsToolCalls()"), "test_law01_every_kind_of_message_comes_back_equal"),
        (storage("SortsKeys()"), "test_law01_keys_keep_their_order"),
        (storage("SharesItsThreads()"), "test_law02_appended_messages_can_be_changed_afterwards"),
        (storage("SortsByClock()"), "test_law03_a_clock_that_goes_back_changes_nothing"),
        (shared("StoresOneByOne"), "test_law04_batches_of_many_writers_stay_whole"),
        (shared("StoresOneByOne"), "test_a_batch_with_a_message_that_cannot_be_stored_changes_nothing"),
        (storage("IgnoresTheVersion()"), "test_law04_of_many_writers_at_one_version_one_wins"),
        (shared("StoresTwiceNowAndThen"), "test_law04_processes_append_to_one_thread"),
        (shared("AcknowledgesTooEarly"), "test_law05_a_killed_process_loses_nothing_acknowledged"),
        (storage("IgnoresCase()"), "test_law07_hostile_thread_ids_are_told_apart"),
        (storage("IgnoresTheUser()"), "test_append_to_the_thread_of_another_user_is_refused"),
        (storage("FindsEverybodysMessages()"), "test_law07_threads_and_users_are_apart"),
        (storage("KeepsEverything()"), "test_law08_only_the_newest_messages_are_kept"),
        (storage("ListsEveryone()"), "test_listing_keeps_to_one_user"),
        (storage("ListsByTheFirstWrite()"), "test_listing_is_in_the_order_asked_for"),
        (storage("TakesOneForTrue()"), "test_metadata_is_compared_with_its_type"),
        (storage("LosesThePlaceOfDeletedThreads()"), "test_a_cursor_outlives_its_thread"),
        (storage("LosesThePlaceOfDeletedThreads()"), "test_pages_hold_while_others_are_written_to"),
        (storage("SharesWithItsForks()"), "test_what_is_written_to_one_is_not_seen_in_another"),
        (storage("ForksWithoutTheAudit()"), "test_fork_has_what_its_parent_has"),
        (storage("DoesNothing()"), "test_append_creates_the_thread_when_asked"),
    ],
    ids=lambda value: value if value.startswith("test_") else "",
)
def test_the_kit_finds(pytester: pytest.Pytester, fault: str, law: str) -> None:
    result = kit_on(pytester, fault, "-k", law)
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) >= 1, result.outlines
    assert "errors" not in outcomes


def test_a_sound_storage_passes_with_nothing_but_pytest(pytester: pytest.Pytester) -> None:
    result = kit_on(pytester, storage("MemoryStorage()"))
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] > 100


def test_what_does_not_bind_is_skipped_by_name(pytester: pytest.Pytester) -> None:
    result = kit_on(pytester, storage("LiveDictStorage()"), "-k", "law05 or law04_processes")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        ["*law 5 binds storages that override append_messages; LiveDictStorage does not*"],
    )


def test_a_declared_deviation_is_reported_with_its_reason(pytester: pytest.Pytester) -> None:
    law = "test_law03_a_clock_that_goes_back_changes_nothing"
    deviations = f'        deviations = {{"{law}": "sorts by clock, as its users want"}}\n'
    result = kit_on(pytester, deviations + storage("SortsByClock()"), "-k", f"{law} or kit_is_whole")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines([f"*declared deviation from {law}: sorts by clock, as its users want*"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('        deviations = {"test_law99": "never"}\n', "*names no test of the kit*test_law99*"),
        ('        deviations = {"test_kit_is_whole": "never"}\n', "*names no test of the kit*test_kit_is_whole*"),
        ('        deviations = {"test_law03_seqs_ascend_from_append_to_append": " "}\n', "*gives no reason for*law03*"),
        (
            "        def test_law03_seqs_ascend_from_append_to_append(self): pass\n",
            "*overrides tests of the kit*law03*",
        ),
        ("        test_law03_seqs_ascend_from_append_to_append = None\n", "*overrides tests of the kit*law03*"),
    ],
)
def test_a_law_cannot_be_silenced(pytester: pytest.Pytester, body: str, said: str) -> None:
    result = kit_on(pytester, body + storage("MemoryStorage()"), "-k", "kit_is_whole")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([said])


def test_a_missing_storage_fixture_says_what_to_do(pytester: pytest.Pytester) -> None:
    result = kit_on(pytester, "        pass\n", "-k", "law02_listed")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*TestMine needs a fixture `storage`*"])
