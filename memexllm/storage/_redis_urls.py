"""Where a server is: its URL, and the clients this package opens for it."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

from memexllm.core.errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
DEFAULT_URL = "redis://localhost:6379/0"


class Place:
    """`str()` names it without its password."""

    def __init__(self, url: str | None, max_connections: int, timeout_s: float, *, given: bool = False) -> None:
        self.url = "" if given else _checked(DEFAULT_URL if url is None else url)
        self.max_connections = max_connections
        self.timeout_s = timeout_s
        scheme, _, rest = self.url.partition("://")
        self.is_cluster = scheme.endswith("+cluster")
        self._plain_url = f"{scheme.removesuffix('+cluster')}://{rest}"
        self._secrets = _secrets_of(self.url)
        self._shown = "the client's server" if given else self.without_password(self.url)

    def __str__(self) -> str:
        return self._shown

    def without_password(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def check(self, module: Any) -> None:
        """Refuse what is no URL; nothing is opened."""
        self._pool(module)

    def client(self, module: Any) -> Any:
        if self.is_cluster:
            options = {"max_connections": self.max_connections, "connection_pool_class": module.BlockingConnectionPool}
            return module.cluster.RedisCluster.from_url(self._plain_url, **options, **self._options())
        return module.Redis.from_pool(self._pool(module))

    def async_client(self, module: Any) -> Any:
        """Of the module `redis.asyncio`, for the running loop."""
        if self.is_cluster:
            return module.cluster.RedisCluster.from_url(
                self._plain_url, max_connections=self.max_connections, **self._options()
            )
        return module.Redis.from_pool(self._pool(module))

    def _pool(self, module: Any) -> Any:
        try:
            return module.BlockingConnectionPool.from_url(
                self._plain_url,
                max_connections=self.max_connections,
                timeout=self.timeout_s,
                # What a server did not answer is asked again by us, who know whether it may have been done.
                retry=module.retry.Retry(import_module("redis.backoff").NoBackoff(), 0),
                **self._options(),
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{self} is no URL of a Redis server: {self.without_password(str(error))}"
            ) from None

    def _options(self) -> dict[str, Any]:
        """What the URL's own options go before."""
        return {"protocol": 3, "socket_timeout": self.timeout_s, "socket_connect_timeout": self.timeout_s}


def _checked(url: Any) -> str:
    if not isinstance(url, str) or "://" not in url:
        raise ConfigurationError(f"url is a text like {DEFAULT_URL!r}, or None; got {type(url).__name__}")
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ConfigurationError(f"Redis is opened by {', '.join(each + '://' for each in SCHEMES)}, not {scheme}://")
    return url


def _secrets_of(url: str) -> list[str]:
    try:
        password = urlsplit(url).password
    except ValueError:
        return []
    queried = [part.partition("=")[2] for part in urlsplit(url).query.split("&") if part.startswith("password=")]
    found = [each for each in (password, *queried) if each]
    return [*found, *(unquote(each) for each in found)]
