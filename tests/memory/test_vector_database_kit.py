"""The kit fails on vector databases that are broken in one way each."""

from __future__ import annotations

import re

import pytest

from tests.memory.kits import kit_run

BROKEN = {
    "ForgetsWhoseItIs": "test_law06_a_user_sees_his_own_records_only",
    "CountsEveryone": "test_law06_an_unknown_user_sees_nothing",
    "OneRecordForAllWhoSayIt": "test_law06_the_same_text_of_another_user_is_another_record",
    "UpdatesAnyonesRecord": "test_law06_an_update_reaches_no_other_users_record",
    "IgnoresMetadata": "test_law03_metadata_is_compared_as_json_has_it",
    "TotalsOfThePage": "test_law02_pages_follow_each_other_with_right_totals",
    "EndsAtTheFirstWrong": "test_law01_a_batch_is_added_whole_or_not_at_all",
    "WorstFirst": "test_law02_the_nearest_come_first_with_falling_scores",
    "KeepsTheOldVector": "test_law04_an_update_is_found_by_what_it_says_now",
    "DeletesNothing": "test_law05_what_is_deleted_is_gone",
    "IgnoresWords": "test_law08_a_name_is_found_that_means_nothing_to_the_model",
    "FiltersTheBestOnly": "test_law08_a_filter_leaves_enough_to_be_found",
    "KeepsTheOldWords": "test_law08_words_are_those_of_now",
    "HandsOutItsOwn": "test_law01_nothing_can_be_changed_through_what_was_handed_over",
}


def test_each_way_of_being_broken_is_found(pytester: pytest.Pytester) -> None:
    classes = "".join(
        f"class Test{name}(VectorDatabaseConformance):\n    @pytest.fixture\n    def database(self, embeddings):\n"
        f"        return home.{name}(embeddings)\n\n"
        for name in BROKEN
    )
    source = (
        "import pytest\nfrom memexllm.testing import VectorDatabaseConformance\n"
        f"import tests.memory.broken_databases as home\n\n{classes}"
    )
    result = kit_run(pytester, source, "-k", " or ".join(BROKEN.values()))
    assert "errors" not in result.parseoutcomes(), result.outlines
    failed = {match.groups() for line in result.outlines if (match := re.match(r"FAILED \S+::Test(\w+)::(\w+)", line))}
    assert [name for name, law in BROKEN.items() if (name, law) not in failed] == []


def test_a_kit_without_a_database_says_what_it_needs(pytester: pytest.Pytester) -> None:
    source = (
        "from memexllm.testing import VectorDatabaseConformance\n\n"
        "class TestMine(VectorDatabaseConformance):\n    def test_law05_what_is_deleted_is_gone(self):\n        pass\n"
    )
    result = kit_run(pytester, source)
    result.stdout.fnmatch_lines(["*needs a fixture `database`*"])
    assert any(re.match(r"FAILED \S+::TestMine::test_kit_is_whole", line) for line in result.outlines)
