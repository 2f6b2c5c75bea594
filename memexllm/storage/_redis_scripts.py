"""The writes and reads of one thread, as scripts that run in its slot: each changes everything or nothing.

Keys of a thread (`_redis_keys.py`):

- `head`, a hash: `format`, `tally`, `place` (in the order of creation), `owner` (the name of its user), `expires_at` in
  milliseconds (absent without a ttl), `edits` (how often messages that were there were changed), and as JSON texts
  `id`, `user`, `title`, `metadata` and `created_at`. `tally` is what every write changes, joined by commas: version,
  next seq, time of the last write in microseconds, and how many items `live`, `dead`, `extra` and `state` hold: a key
  that was evicted is missed.
- `state`, a hash of JSON texts by keys that are JSON texts.
- `live` and `dead`, sorted sets of the JSON texts of messages by their seq; `dead` holds the superseded ones. A text is
  `{`, the marks that can change later (`superseded`, `tokens`), `"seq":n,"id":"…"`, and the rest as it was written.
- `extra`, a hash of the texts that only a reader of messages needs, by seq.
- `done:<token>`, the result of a write, kept as long as the write may be sent again: one whose answer was lost finds it
  and changes nothing.

Message JSON is never decoded here: cjson loses large integers, empty lists and the order of keys.
A script is given the key of the head and knows the others, which lie in its slot. One that writes to the lists as well
is given the key of the index (`_redis_index.py`); on a cluster, where that lies in another slot, it is not, and the
lists are written before.
"""

from __future__ import annotations

from memexllm.storage._redis_index import COMMON, ENTRIES, FORMAT, HEAD, INDEX, LISTING, script_of
from memexllm.storage._redis_lua import DROPPING, EXPIRING, FINDING, MARKING, NOTING, TAKING, TALLY, THREAD
from memexllm.storage._redis_quick import QUICK

_APPEND = """
local now, name, ttl, most, expected, user, after =
    string.match(lines, '^([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n[^\\n]*\\n()', begin)
begin = after
local f = call('HMGET', head, 'format', 'tally', 'place', 'owner', 'user', 'expires_at')
local known, place, owner = f[1], f[3], f[4]
if known and user ~= '' and user ~= 'null' and user ~= f[5] then return refuse('unknown') end
if known then
    if tonumber(known) ~= FORMAT then return say('format', known) end
    if not load_tally(f[2]) or n_live ~= call('ZCARD', live) then return torn(f[2]) end
elseif user == '' then
    return refuse('unknown')
else
    local bad = index and wrong_format()
    if bad then return bad end
end
if expected ~= '' and tonumber(expected) ~= version then return refuse('version', version) end
version = version + 1
local again = note(version)
if again then return again end
-- Nothing below is refused.
if not known then
    call('DEL', head, state, live, dead, extra)
    local rest, at = lines, begin
    lines, begin = ARGV[2], 1
    owner, place = take(), take()
    local fields = {'owner', owner, 'user', user, 'id', take(), 'title', take()}
    fields[9], fields[10], fields[11], fields[12] = 'metadata', take(), 'created_at', take()
    lines, begin = rest, at
    if index then
%%ENTRIES%%
        drop(name)
        place = tostring(call('INCR', index .. ':places'))
    end
    -- A small hash is searched from its beginning: what each write reads comes first.
    call('HSET', head, 'format', FORMAT, 'tally', '', 'place', place, unpack(fields))
end
if take() == '1' then
%%MARKING%%
    call('HINCRBY', head, 'edits', 1)
    local from = take()
    if from ~= '' then
        local tail = call('ZRANGEBYSCORE', live, from, '+inf', 'WITHSCORES')
        for i = 1, #tail, 2 do supersede(tail[i], tail[i + 1]) end
    end
    for _ = 1, tonumber(take()) do
        local seq = take()
        local found = call('ZRANGEBYSCORE', live, seq, seq)
        if found[1] then supersede(found[1], seq) end
    end
    for _ = 1, tonumber(take()) do
        local seq, tokens = take(), take()
        for _, key in ipairs({live, dead}) do
            local text = call('ZRANGEBYSCORE', key, seq, seq)[1]
            if text then
                call('ZREM', key, text)
                local marks = key == dead and '"superseded":true,' or ''
                local rest = string.sub(text, begin_of(text))
                call('ZADD', key, seq, '{' .. marks .. '"tokens":' .. tokens .. ',' .. rest)
            end
        end
    end
end
local n_messages = tonumber(take())
local first = next_seq
take_messages(n_messages, first)
take_state(first)
next_seq = first + n_messages
if most ~= '' then
%%DROPPING%%
    drop_oldest(tonumber(most))
end
call('HSET', head, 'tally', tally_at(now))
local expires = expire(ttl, f[6])
if index then move(name, place, owner, now, expires) end
local went_back = updated_at and tonumber(updated_at) > tonumber(now)
return say('ok', version, known and '' or 'created', went_back and 'back' or '')
"""

_REPLACE = """
local now, name, ttl, expected, needle = take(), take(), take(), take(), take()
local bad = index and wrong_format()
if bad then return bad end
local f = call('HMGET', head, 'format', 'tally', 'place', 'owner', 'expires_at')
if not f[1] then return refuse('unknown') end
bad = refusal(f[1], f[2])
if bad then return bad end
load_tally(f[2])
if expected ~= '' and tonumber(expected) ~= version then return refuse('version', version) end
local key, text, seq = find(needle)
if not text then return refuse('absent') end
version = version + 1
local again = note(version)
if again then return again end
call('HINCRBY', head, 'edits', 1)
call('ZREM', key, text)
if key == live then n_live = n_live - 1 else n_dead = n_dead - 1 end
n_extra = n_extra - call('HDEL', extra, seq)
take_messages(1, tonumber(seq))
take_state(0)
call('HSET', head, 'tally', tally_at(now))
local expires = expire(ttl, f[5])
if index then move(name, f[3], f[4], now, expires) end
return say('ok', version, '', '')
"""

_PATCH = """
local now, name, ttl = take(), take(), take()
local bad = index and wrong_format()
if bad then return bad end
local f = call('HMGET', head, 'format', 'tally', 'place', 'owner', 'expires_at')
if not f[1] then return refuse('unknown') end
bad = refusal(f[1], f[2])
if bad then return bad end
load_tally(f[2])
local owner = f[4]
local n_fields = tonumber(take())
local again = note(version)
if again then return again end
for _ = 1, n_fields do
    local field, value = take(), take()
    call('HSET', head, field, value)
    if field == 'owner' then owner = value end
end
take_state(0)
if n_fields > 0 then version, updated_at = version + 1, now end
call('HSET', head, 'tally', tally_at(updated_at))
local expires = expire(ttl, f[5])
if index and n_fields > 0 then put(name, f[3], owner, now, expires) end
return say('ok', version, '', '')
"""

_DELETE = """
local name = take()
local bad = index and wrong_format()
if bad then return bad end
local format = call('HGET', head, 'format')
if format and tonumber(format) ~= FORMAT then return say('format', format) end
local again = note(format and '1' or '0')
call('UNLINK', head, state, live, dead, extra)
if index then drop(name) end
return again or say('ok', format and '1' or '0', '', '')
"""

# What is asked for, as JSON texts: the head (empty when there is no thread), and messages joined by commas.
_READ = """
local wanted, what, from, to, limit, order = take(), take(), take(), take(), take(), take()
local f = call('HMGET', head, 'format', 'tally')
if not f[1] then return say('ok', '', '') end
local bad = refusal(f[1], f[2])
if bad then return bad end
local shown = wanted ~= 'messages' and head_text(head, state) or 'messages'
if shown == '' then return say('torn', '', '') end
if wanted == 'head' then return say('ok', shown, '') end
local newest = order == 'newest'
if what == 'wire' then
    local low, high, command = from, to, 'ZRANGEBYSCORE'
    if newest then low, high, command = to, from, 'ZREVRANGEBYSCORE' end
    local texts
    if limit == '' then
        texts = call(command, live, low, high)
    else
        texts = call(command, live, low, high, 'LIMIT', 0, limit)
    end
    return say('ok', shown, table.concat(texts, ','))
end
-- Texts and seqs in turn, of a sorted set.
local function bounded(key)
    local low, high, command = from, to, 'ZRANGEBYSCORE'
    if newest then low, high, command = to, from, 'ZREVRANGEBYSCORE' end
    if limit == '' then return call(command, key, low, high, 'WITHSCORES') end
    return call(command, key, low, high, 'WITHSCORES', 'LIMIT', 0, limit)
end
local function merged(one, other)
    local both, i, j, most = {}, 1, 1, limit ~= '' and 2 * tonumber(limit) or #one + #other
    while #both < most and (one[i] or other[j]) do
        local a, b = tonumber(one[i + 1]), tonumber(other[j + 1])
        if not b or (a and (a < b) ~= newest) then
            both[#both + 1], both[#both + 2], i = one[i], one[i + 1], i + 2
        else
            both[#both + 1], both[#both + 2], j = other[j], other[j + 1], j + 2
        end
    end
    return both
end
local found = bounded(live)
if what == 'all' or what == 'every wire' then found = merged(found, bounded(dead)) end
local texts = {}
if what == 'every wire' then
    for i = 1, #found, 2 do texts[#texts + 1] = found[i] end
else
    for first = 1, #found, 2000 do
        local seqs = {}
        local last = math.min(first + 1998, #found - 1)
        for i = first, last, 2 do seqs[#seqs + 1] = found[i + 1] end
        local more = call('HMGET', extra, unpack(seqs))
        for i = 1, #seqs do
            texts[#texts + 1] = found[first + 2 * (i - 1)]
            texts[#texts + 1] = more[i] or 'null'
        end
    end
end
return say('ok', shown, table.concat(texts, ','))
"""

# The newest live messages, newest first: what a call reads. Whatever else there is to say, `READ` says.
_TAIL = """
local f = redis.call('HMGET', KEYS[1], 'format', 'tally')
if not f[1] then return '' end
local live = string.sub(KEYS[1], 1, -5) .. 'live'
local n_live = string.match(f[2] or '', ',(%d+),%d+,%d+,%d+$')
if tonumber(f[1]) ~= FORMAT or tonumber(n_live) ~= redis.call('ZCARD', live) then return 'no' end
return table.concat(redis.call('ZREVRANGE', live, 0, ARGV[1]), ',')
"""

# For the lists of a cluster: what the head says of its entry.
_TRUTH = """
local f = call('HMGET', head, 'place', 'owner', 'tally', 'expires_at')
if not f[1] then return say('', '', '', '') end
return say(f[1], f[2], string.match(f[3], '^%d+,%d+,(%-?%d+),'), f[4] or '')
"""


APPEND = script_of(
    QUICK,
    COMMON,
    LISTING,
    THREAD,
    TALLY,
    TAKING,
    EXPIRING,
    NOTING,
    _APPEND.replace("%%MARKING%%", MARKING).replace("%%DROPPING%%", DROPPING).replace("%%ENTRIES%%", ENTRIES),
    common="",
)
REPLACE = script_of(INDEX, THREAD, TALLY, MARKING, FINDING, TAKING, EXPIRING, NOTING, _REPLACE)
PATCH = script_of(INDEX, THREAD, TALLY, TAKING, EXPIRING, NOTING, _PATCH)
DELETE = script_of(INDEX, THREAD, NOTING, _DELETE)
TAIL = script_of(_TAIL.replace("FORMAT", str(FORMAT)), common="")
READ = script_of(HEAD, THREAD, _READ)
TRUTH = script_of(THREAD, _TRUTH)
