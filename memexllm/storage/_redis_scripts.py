"""The writes and reads of one thread, as scripts that run in its slot: each changes everything or nothing.

Keys of a thread (`_redis_keys.py`):

- `head`, a hash: `format`, `version`, `next_seq`, `place` (in the order of creation), `owner` (the name of its user),
  `updated_at` in microseconds, `expires_at` in milliseconds (absent without a ttl), `sizes` (how many items the other
  four keys hold: one that was evicted is missed), `edits` (how often messages that were there were changed), and as
  JSON texts `id`, `user`, `title`, `metadata` and `created_at`.
- `state`, a hash of JSON texts by keys that are JSON texts.
- `live` and `dead`, sorted sets of the JSON texts of messages by their seq; `dead` holds the superseded ones. A text is
  `{`, the marks that can change later (`superseded`, `tokens`), `"seq":n,"id":"…"`, and the rest as it was written.
- `extra`, a hash of the texts that only a reader of messages needs, by seq.
- `done:<token>`, the result of a write, kept as long as the write may be sent again: one whose answer was lost finds it
  and changes nothing.

Message JSON is never decoded here: cjson loses large integers, empty lists and the order of keys.
Every script that writes to the lists as well is given the key of the index (`_redis_index.py`); on a cluster, where
that lies in another slot, it is not, and the lists are written before.
"""

from __future__ import annotations

from memexllm.storage._redis_index import ENTRIES, FORMAT, HEAD, INDEX, LISTING, script_of
from memexllm.storage._redis_lua import COUNTING, DROPPING, EXPIRING, FINDING, MARKING, NOTING, TAKING, THREAD

_APPEND = """
local done_for, now, name, ttl, most, expected = take(), take(), take(), take(), take(), take()
index = KEYS[7]
local f = call('HMGET', head,
    'format', 'version', 'next_seq', 'place', 'owner', 'user', 'updated_at', 'expires_at', 'sizes')
local known = f[1]
local version, first, place, owner = tonumber(f[2] or 0), tonumber(f[3] or 0), f[4], f[5]
local user = take()
if known and user ~= '' and user ~= 'null' and user ~= f[6] then return refuse('unknown') end
if known then
    if tonumber(known) ~= FORMAT then return say('format', known) end
    load_sizes(f[9])
    if n_live ~= call('ZCARD', live) then return say('torn', f[9], counted()) end
elseif user == '' then
    return refuse('unknown')
else
    local bad = index and wrong_format()
    if bad then return bad end
end
if expected ~= '' and tonumber(expected) ~= version then return refuse('version', version) end
version = version + 1
local again = note(version, done_for)
if again then return again end
-- Nothing below is refused.
if not known then
    call('DEL', unpack(parts))
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
    call('HSET', head, 'format', FORMAT, 'version', 0, 'next_seq', 0, 'sizes', '', 'updated_at', now, 'place', place)
    call('HSET', head, unpack(fields))
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
take_messages(n_messages, first)
take_state(first)
if most ~= '' then
%%DROPPING%%
    drop_oldest(tonumber(most))
end
call('HSET', head, 'version', version, 'next_seq', first + n_messages, 'updated_at', now, 'sizes', sizes())
local expires = expire(ttl, f[8])
if index then move(name, place, owner, now, expires) end
local went_back = f[7] and tonumber(f[7]) > tonumber(now)
return say('ok', version, known and '' or 'created', went_back and 'back' or '')
"""

_REPLACE = """
local done_for, now, name, ttl, expected, needle = take(), take(), take(), take(), take(), take()
index = KEYS[7]
local bad = index and wrong_format()
if bad then return bad end
local f = call('HMGET', head, 'format', 'version', 'place', 'owner', 'expires_at', 'sizes')
if not f[1] then return refuse('unknown') end
bad = refusal(f[1], f[6])
if bad then return bad end
load_sizes(f[6])
if expected ~= '' and expected ~= f[2] then return refuse('version', f[2]) end
local key, text, seq = find(needle)
if not text then return refuse('absent') end
local again = note(f[2] + 1, done_for)
if again then return again end
call('HINCRBY', head, 'edits', 1)
call('ZREM', key, text)
if key == live then n_live = n_live - 1 else n_dead = n_dead - 1 end
n_extra = n_extra - call('HDEL', extra, seq)
take_messages(1, tonumber(seq))
take_state(0)
call('HSET', head, 'version', f[2] + 1, 'updated_at', now, 'sizes', sizes())
local expires = expire(ttl, f[5])
if index then move(name, f[3], f[4], now, expires) end
return say('ok', f[2] + 1, '', '')
"""

_PATCH = """
local done_for, now, name, ttl = take(), take(), take(), take()
index = KEYS[7]
local bad = index and wrong_format()
if bad then return bad end
local f = call('HMGET', head, 'format', 'version', 'place', 'owner', 'expires_at', 'sizes')
if not f[1] then return refuse('unknown') end
bad = refusal(f[1], f[6])
if bad then return bad end
load_sizes(f[6])
local owner = f[4]
local n_fields = tonumber(take())
local again = note(f[2], done_for)
if again then return again end
for _ = 1, n_fields do
    local field, value = take(), take()
    call('HSET', head, field, value)
    if field == 'owner' then owner = value end
end
take_state(0)
call('HSET', head, 'sizes', sizes())
if n_fields > 0 then call('HSET', head, 'version', f[2] + 1, 'updated_at', now) end
local expires = expire(ttl, f[5])
if index and n_fields > 0 then put(name, f[3], owner, now, expires) end
return say('ok', f[2], '', '')
"""

# The messages of a long thread were laid ready by `stage`, in keys that nobody reads, and are moved into place.
_SAVE = """
local done_for, now, name, ttl, most, staged = take(), take(), take(), take(), take(), take()
index = KEYS[7]
local bad = index and wrong_format()
if bad then return bad end
local must_be_new = take() == '1'
local version, next_seq, place = tonumber(take()), tonumber(take()), take()
local fields = {}
for i = 1, 12 do fields[i] = take() end
local owner = fields[2]
local f = call('HMGET', head, 'format', 'version', 'next_seq', 'place', 'expires_at', 'edits')
if f[1] then
    if tonumber(f[1]) ~= FORMAT then return say('format', f[1]) end
    if must_be_new then return refuse('taken') end
    version, next_seq, place = math.max(version, f[2] + 1), math.max(next_seq, f[3]), f[4]
end
if staged ~= '' then
    local sum = call('ZCARD', staged .. 'live') .. ',' .. call('ZCARD', staged .. 'dead')
    if sum .. ',' .. call('HLEN', staged .. 'extra') ~= take() then return refuse('unstaged') end
end
local again = note(version, done_for)
if again then return again end
-- Nothing below is refused.
if index and not f[1] then
    drop(name)
    place = tostring(call('INCR', index .. ':places'))
end
call('DEL', unpack(parts))
call('HSET', head, 'format', FORMAT, 'version', version, 'next_seq', next_seq, 'sizes', '', 'updated_at', now)
call('HSET', head, 'place', place, 'edits', (f[6] or 0) + 1, unpack(fields))
if staged ~= '' then
    for _, part in ipairs({'live', 'dead', 'extra'}) do
        if call('EXISTS', staged .. part) == 1 then
            local key = ({live = live, dead = dead, extra = extra})[part]
            call('RENAME', staged .. part, key)
            call('PERSIST', key)
        end
    end
    load_sizes(counted())
else
    take_messages(tonumber(take()))
end
take_state(0)
if most ~= '' then drop_oldest(tonumber(most)) end
call('HSET', head, 'sizes', sizes())
local expires = expire(ttl, f[5])
if index then put(name, place, owner, now, expires) end
return say('ok', version, f[1] and '' or 'created', '')
"""

# KEYS: live, dead and extra of a copy that is being made; whoever makes it and dies leaves them to expire.
_STAGE = """
live, dead, extra = KEYS[1], KEYS[2], KEYS[3]
take_messages(tonumber(take()))
for _, key in ipairs({live, dead, extra}) do call('PEXPIRE', key, 600000) end
return call('ZCARD', live) .. ',' .. call('ZCARD', dead) .. ',' .. call('HLEN', extra)
"""

_DELETE = """
local done_for, name = take(), take()
index = KEYS[7]
local bad = index and wrong_format()
if bad then return bad end
local format = call('HGET', head, 'format')
if format and tonumber(format) ~= FORMAT then return say('format', format) end
local again = note(format and '1' or '0', done_for)
call('UNLINK', unpack(parts))
if index then drop(name) end
return again or say('ok', format and '1' or '0', '', '')
"""

# What is asked for, as JSON texts: the head (empty when there is no thread), and messages joined by commas.
_READ = """
local wanted, what, from, to, limit, order = take(), take(), take(), take(), take(), take()
local f = call('HMGET', head, 'format', 'sizes')
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
local f = redis.call('HMGET', KEYS[1], 'format', 'sizes')
if not f[1] then return '' end
local n_live = redis.call('ZCARD', KEYS[2]) .. ','
if tonumber(f[1]) ~= FORMAT or string.sub(f[2] or '', 1, #n_live) ~= n_live then return 'no' end
return table.concat(redis.call('ZREVRANGE', KEYS[2], 0, ARGV[1]), ',')
"""

# For a fork: the head, what changes with every edit, next_seq, the seq of the message to end with and whether it is
# superseded, and whether nothing comes after it.
_SOURCE = """
local needle = take()
local f = call('HMGET', head, 'format', 'sizes', 'place', 'edits', 'next_seq')
if not f[1] then return 'unknown' end
local bad = refusal(f[1], f[2])
if bad then return bad end
local edition = f[3] .. ':' .. (f[4] or '0')
if needle == '' then return say('ok', head_text(head, state), edition, f[5], '', '', '1') end
local key, text, seq = find(needle)
if not text then return 'absent' end
local after = call('ZCOUNT', live, '(' .. seq, '+inf') + call('ZCOUNT', dead, '(' .. seq, '+inf')
return say('ok', head_text(head, state), edition, f[5], seq, key == dead and '1' or '', after == 0 and '1' or '')
"""

# A part of the messages in order, each as its seq, its text and its extra.
_PART = """
local after, upto, count = take(), take(), tonumber(take())
local found = {}
for _, key in ipairs({live, dead}) do
    local page = call('ZRANGEBYSCORE', key, after, upto, 'WITHSCORES', 'LIMIT', 0, count)
    for i = 1, #page, 2 do found[#found + 1] = {tonumber(page[i + 1]), page[i], page[i + 1]} end
end
table.sort(found, function (a, b) return a[1] < b[1] end)
local lines_of = {'ok'}
for i = 1, math.min(count, #found) do
    local text, seq = found[i][2], found[i][3]
    lines_of[#lines_of + 1], lines_of[#lines_of + 2] = seq, text
    lines_of[#lines_of + 1] = call('HGET', extra, seq) or ''
end
return table.concat(lines_of, '\\n')
"""

# For the lists of a cluster: what the head says of its entry.
_TRUTH = """
local f = call('HMGET', head, 'place', 'owner', 'updated_at', 'expires_at')
if not f[1] then return say('', '', '', '') end
return say(f[1], f[2], f[3], f[4] or '')
"""


_WRITING = "".join((COUNTING, MARKING, FINDING, TAKING, DROPPING, EXPIRING, NOTING))
APPEND = script_of(
    LISTING,
    THREAD,
    COUNTING,
    TAKING,
    EXPIRING,
    NOTING,
    _APPEND.replace("%%MARKING%%", MARKING).replace("%%DROPPING%%", DROPPING).replace("%%ENTRIES%%", ENTRIES),
)
REPLACE = script_of(INDEX, THREAD, _WRITING, _REPLACE)
PATCH = script_of(INDEX, THREAD, _WRITING, _PATCH)
SAVE = script_of(INDEX, THREAD, _WRITING, _SAVE)
STAGE = script_of(INDEX, THREAD, _WRITING, _STAGE)
DELETE = script_of(INDEX, THREAD, _WRITING, _DELETE)
TAIL = script_of(_TAIL.replace("FORMAT", str(FORMAT)), common="")
READ = script_of(HEAD, THREAD, _READ)
SOURCE = script_of(HEAD, THREAD, COUNTING, MARKING, FINDING, _SOURCE)
PART = script_of(THREAD, _PART)
TRUTH = script_of(THREAD, _TRUTH)
