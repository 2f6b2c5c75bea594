"""What `SQLStorage` and `AsyncSQLStorage` are made with: checked, and turned into engines and statements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from memexllm.core.errors import ConfigurationError
from memexllm.core.refusals import checked_positive
from memexllm.storage._sql_dialects import checked_url, driver_url, is_async
from memexllm.storage._sql_engines import AsyncEngines, SyncEngines, checked_engine
from memexllm.storage._sql_statements import Statements, statements_for

_PREFIX = re.compile(r"[a-z0-9_]{0,30}")


def opened(
    by: str, url: Any, engine: Any, options: Mapping[str, Any], *, asynchronous: bool
) -> tuple[SyncEngines | AsyncEngines, Statements]:
    schema, prefix = options["schema"], options["table_prefix"]
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"table_prefix has at most 30 lower-case letters, digits and underscores; {prefix!r} has others"
        )
    if schema is not None and not (isinstance(schema, str) and schema):
        raise ConfigurationError(f"schema is the name of a schema, or None for the connection's own; not {schema!r}")
    pool_size, wait_s = options["pool_size"], options["wait_s"]
    checked_positive(pool_size, "pool_size")
    if (url is None) == (engine is None):
        raise ConfigurationError(f"{by} takes a URL or an engine=, and not both")
    engines: SyncEngines | AsyncEngines
    if engine is not None:
        engine = checked_engine(engine, by, asynchronous=asynchronous)
        engines = (AsyncEngines if asynchronous else SyncEngines)(engine.url, pool_size, wait_s, engine)
    else:
        found = driver_url(checked_url(url, by), by, asynchronous=asynchronous)
        if is_async(found, by) and not asynchronous:
            raise ConfigurationError(f"{found.drivername} is an asynchronous driver; Async{by} takes it")
        # A database without an asynchronous driver is used in worker threads.
        engines = (AsyncEngines if is_async(found, by) else SyncEngines)(found, pool_size, wait_s, None)
    return engines, statements_for(engines.url.get_backend_name(), schema, prefix)
