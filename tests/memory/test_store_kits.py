"""The kits of stores find what is broken."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from tests.memory.kits import kit_run

pytest_plugins = ["pytester"]

BROKEN = {
    "FactsSearchEveryone": {"law06_a_user_sees_his_own_facts_only", "law06_a_small_page_holds_his_own_facts"},
    "FactsListEveryone": {"law06_a_user_sees_his_own_facts_only"},
    "FactsDeleteEveryones": {"law05_nobody_deletes_everything_by_saying_nothing"},
    "FactsLoseMetadata": {"law02_what_is_added_is_there"},
    "DocumentsAreStripped": {"law02_a_document_comes_back_whole"},
    "DocumentsOfAnyone": {"law06_a_user_sees_his_own_documents_only"},
    "DocumentsKeepTheOldText": {"law04_an_update_leaves_nothing_of_the_former_text"},
    "GraphDeletesAnyones": {"law06_deleting_takes_nothing_from_others"},
    "GraphLooksAtSubjects": {"law02_an_entity_is_asked_for_from_either_end"},
    "HistoryLetsAnyoneIn": {"law06_nobody_speaks_in_anothers_session"},
    "HistoryGivesTheOldest": {"law03_pages_lead_back_to_the_beginning"},
}
KITS = {"Facts": "FactStore", "Documents": "DocumentStore", "Graph": "GraphStore", "History": "HistoryStore"}


def test_each_broken_store_fails_the_law_it_breaks(pytester: pytest.Pytester) -> None:
    source = "import pytest\nimport memexllm.testing as kits\nimport tests.memory.broken_stores as home\n\n"
    for name in BROKEN:
        kit = next(kit for begin, kit in KITS.items() if name.startswith(begin))
        source += (
            f"class Test{name}(kits.{kit}Conformance):\n"
            f"    @pytest.fixture\n    def store(self):\n        return home.{name}()\n\n"
        )
    result = kit_run(pytester, source)
    assert "errors" not in result.parseoutcomes(), result.outlines
    found: defaultdict[str, set[str]] = defaultdict(set)
    for line in result.outlines:
        if match := re.match(r"FAILED \S+::Test(\w+)::test_(\w+)", line):
            found[match[1]].add(match[2])
    assert {name: laws - found[name] for name, laws in BROKEN.items()} == {name: set() for name in BROKEN}
