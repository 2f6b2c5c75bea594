"""Whole threads, as scripts that run in their slot: saved, restored in batches, copied for a fork.

The keys of a thread are described in `_redis_scripts.py`.
"""

from __future__ import annotations

from memexllm.storage._redis_index import HEAD, INDEX, script_of
from memexllm.storage._redis_lua import DROPPING, EXPIRING, FINDING, MARKING, NOTING, TAKING, TALLY, THREAD

# The messages of a long thread were laid ready by `stage`, in keys that nobody reads, and are moved into place.
_SAVE = """
local now, name, ttl, most, staged = take(), take(), take(), take(), take()
local bad = index and wrong_format()
if bad then return bad end
local must_be_new = take() == '1'
local own_version, own_next_seq, place = tonumber(take()), tonumber(take()), take()
local fields = {}
for i = 1, 12 do fields[i] = take() end
local owner = fields[2]
local f = call('HMGET', head, 'format', 'tally', 'place', 'expires_at', 'edits')
if f[1] then
    if tonumber(f[1]) ~= FORMAT then return say('format', f[1]) end
    if must_be_new then return refuse('taken') end
    if not load_tally(f[2]) then return torn(f[2]) end
    version, place = version + 1, f[3]
end
version, next_seq = math.max(version, own_version), math.max(next_seq, own_next_seq)
if staged ~= '' then
    local sum = call('ZCARD', staged .. 'live') .. ',' .. call('ZCARD', staged .. 'dead')
    if sum .. ',' .. call('HLEN', staged .. 'extra') ~= take() then return refuse('unstaged') end
end
local again = note(version)
if again then return again end
-- Nothing below is refused.
if index and not f[1] then
    drop(name)
    place = tostring(call('INCR', index .. ':places'))
end
call('DEL', head, state, live, dead, extra)
call('HSET', head, 'format', FORMAT, 'tally', '', 'place', place, unpack(fields))
call('HSET', head, 'edits', (f[5] or 0) + 1)
n_live, n_dead, n_extra, n_state = 0, 0, 0, 0
if staged ~= '' then
    for _, part in ipairs({'live', 'dead', 'extra'}) do
        if call('EXISTS', staged .. part) == 1 then
            local key = ({live = live, dead = dead, extra = extra})[part]
            call('RENAME', staged .. part, key)
            call('PERSIST', key)
        end
    end
    n_live, n_dead, n_extra = call('ZCARD', live), call('ZCARD', dead), call('HLEN', extra)
else
    take_messages(tonumber(take()))
end
take_state(0)
if most ~= '' then drop_oldest(tonumber(most)) end
call('HSET', head, 'tally', tally_at(now))
local expires = expire(ttl, f[4])
if index then put(name, place, owner, now, expires) end
return say('ok', version, f[1] and '' or 'created', '')
"""

# Messages come with their own seqs, which follow the thread's last one; its fields are those that are given.
_RESTORE = """
local now, name, ttl, most = take(), take(), take(), take()
local bad = index and wrong_format()
if bad then return bad end
local own_version, place = tonumber(take()), take()
local fields = {}
for i = 1, 12 do fields[i] = take() end
local owner = fields[2]
local n_messages, first_seq, after = tonumber(take()), tonumber(take()), tonumber(take())
local f = call('HMGET', head, 'format', 'tally', 'place', 'expires_at')
if f[1] then
    bad = refusal(f[1], f[2])
    if bad then return bad end
    load_tally(f[2])
    place = f[3]
end
if first_seq and first_seq < next_seq then return refuse('behind', next_seq - 1) end
version = own_version
local again = note(version)
if again then return again end
-- Nothing below is refused.
if not f[1] then
    call('DEL', head, state, live, dead, extra)
    if index then
        drop(name)
        place = tostring(call('INCR', index .. ':places'))
    end
    call('HSET', head, 'format', FORMAT, 'tally', '', 'place', place)
end
call('HSET', head, unpack(fields))
take_messages(n_messages)
next_seq = after or next_seq
call('DEL', state)
n_state = 0
take_state(0)
if most ~= '' then drop_oldest(tonumber(most)) end
call('HSET', head, 'tally', tally_at(now))
local expires = expire(ttl, f[4])
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

# For a fork: the head, what changes with every edit, next_seq, the seq of the message to end with and whether it is
# superseded, and whether nothing comes after it.
_SOURCE = """
local needle = take()
local f = call('HMGET', head, 'format', 'tally', 'place', 'edits')
if not f[1] then return 'unknown' end
local bad = refusal(f[1], f[2])
if bad then return bad end
local edition = f[3] .. ':' .. (f[4] or '0')
load_tally(f[2])
if needle == '' then return say('ok', head_text(head, state), edition, next_seq, '', '', '1') end
local key, text, seq = find(needle)
if not text then return 'absent' end
local after = call('ZCOUNT', live, '(' .. seq, '+inf') + call('ZCOUNT', dead, '(' .. seq, '+inf')
return say('ok', head_text(head, state), edition, next_seq, seq, key == dead and '1' or '', after == 0 and '1' or '')
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

SAVE = script_of(INDEX, THREAD, TALLY, TAKING, DROPPING, EXPIRING, NOTING, _SAVE)
STAGE = script_of(THREAD, TALLY, TAKING, _STAGE)
RESTORE = script_of(INDEX, THREAD, TALLY, TAKING, DROPPING, EXPIRING, NOTING, _RESTORE)
SOURCE = script_of(HEAD, THREAD, TALLY, MARKING, FINDING, _SOURCE)
PART = script_of(THREAD, _PART)
