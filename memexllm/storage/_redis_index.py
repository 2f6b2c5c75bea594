"""The lists of threads, as scripts that run in their slot.

Keys, all beginning with the index key `{prefix:index}`:

- `:format`, the number of the format; a newer one is refused, with nothing changed.
- `:places`, the counter of the order of creation; `:entries`, a hash `name → place:owner`.
- `:created` and `:updated`, and the same below `:user:<owner>`: sorted sets of `place:name` (15 digits, so that equal
  times go by creation), by place and by time of the last write in microseconds.
- `:expires`, a sorted set of names by the time their thread expires at, in milliseconds.

On one server a write to a thread changes its entries in the same script, so they are exact. On a cluster they lie in
another slot and are written *first* (`touch`): an entry is there before its thread, and its time is never older than
the thread's. A client that dies in between leaves an entry too many or one too high; whoever lists threads compares
entries with heads, which are the truth, and puts those right that no write in flight can explain (`settle`).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Script:
    text: bytes
    sha: bytes


# Arguments come as the lines of a text and answers go as one: JSON texts and names hold no line ends, and each single
# argument costs redis-py about a microsecond.
COMMON = (
    "local call = redis.call\n"
    f"local FORMAT = {FORMAT}\n"
    """
local lines, begin = ARGV[1], 1
local function take()
    local stop = string.find(lines, '\\n', begin, true)
    local line = string.sub(lines, begin, stop and stop - 1)
    begin = (stop or #lines) + 1
    return line
end
local function say(...) return table.concat({...}, '\\n') end
local function milliseconds()
    local time = call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
"""
)

LISTING = """
local index
local function wrong_format()
    local found = call('GET', index .. ':format')
    if not found then
        call('SET', index .. ':format', FORMAT)
    elseif tonumber(found) ~= FORMAT then
        return say('format', found)
    end
end
local function member_of(place, name) return string.rep('0', 15 - #place) .. place .. ':' .. name end
-- Move the entry of a thread whose place and user are those it was made with; one that is not there is made.
local function move(name, place, owner, updated, expires)
    local member = member_of(place, name)
    local user = index .. ':user:' .. owner
    local added = call('ZADD', index .. ':updated', updated, member)
    if owner ~= '' then added = added + call('ZADD', user .. ':updated', updated, member) end
    if added > 0 then
        call('HSET', index .. ':entries', name, place .. ':' .. owner)
        call('ZADD', index .. ':created', place, member)
        if owner ~= '' then call('ZADD', user .. ':created', place, member) end
    end
    if expires ~= '' then call('ZADD', index .. ':expires', expires, name) end
end
"""

ENTRIES = """
local function entry_of(name)
    local found = call('HGET', index .. ':entries', name)
    if not found then return end
    local colon = string.find(found, ':', 1, true)
    return string.sub(found, 1, colon - 1), string.sub(found, colon + 1)
end
local function drop(name)
    local place, owner = entry_of(name)
    if not place then return end
    local member = member_of(place, name)
    call('ZREM', index .. ':created', member)
    call('ZREM', index .. ':updated', member)
    if owner ~= '' then
        call('ZREM', index .. ':user:' .. owner .. ':created', member)
        call('ZREM', index .. ':user:' .. owner .. ':updated', member)
    end
    call('HDEL', index .. ':entries', name)
    call('ZREM', index .. ':expires', name)
end
-- Make the entry what it should be, whatever it is.
local function put(name, place, owner, updated, expires)
    local old_place, old_owner = entry_of(name)
    if old_place and (old_place ~= place or old_owner ~= owner) then drop(name) end
    move(name, place, owner, updated, expires)
end
"""

INDEX = LISTING + ENTRIES

HEAD = """
-- The texts of a head and its state, as one JSON text.
local function head_text(head, state)
    local f = call('HMGET', head, 'id', 'user', 'title', 'metadata', 'created_at', 'place', 'tally')
    for i = 1, 7 do
        if not f[i] then return '' end
    end
    local pairs_of_state = call('HGETALL', state)
    local texts = {}
    for i = 1, #pairs_of_state, 2 do texts[#texts + 1] = pairs_of_state[i] .. ':' .. pairs_of_state[i + 1] end
    return '[' .. table.concat(f, ',') .. ',{' .. table.concat(texts, ',') .. '}]'
end
"""

# Before a write, on a cluster: the thread's place (empty when it has none and is not to be made), whether it is new,
# and the time that its entry has now.
_TOUCH = """
index = KEYS[1]
local bad = wrong_format()
if bad then return bad end
local name, now, creating, owner, ttl = take(), take(), take(), take(), take()
local due = call('ZSCORE', index .. ':expires', name)
if due and tonumber(due) < milliseconds() then drop(name) end
local place, known_owner = entry_of(name)
local made = ''
if not place then
    if creating ~= '1' then return say('ok', '', '', '') end
    place, known_owner, made = tostring(call('INCR', index .. ':places')), owner, 'made'
    put(name, place, owner, now, '')
end
local member = member_of(place, name)
call('ZADD', index .. ':updated', 'GT', now, member)
if known_owner ~= '' then call('ZADD', index .. ':user:' .. known_owner .. ':updated', 'GT', now, member) end
if ttl ~= '' then call('ZADD', index .. ':expires', string.format('%.0f', milliseconds() + tonumber(ttl)), name) end
return say('ok', place, made, call('ZSCORE', index .. ':updated', member))
"""

# What a head says, unless somebody wrote since the entry was read: then that write sees to it.
_SETTLE = """
index = KEYS[1]
local name, seen, place, owner, updated, expires = take(), take(), take(), take(), take(), take()
local known = entry_of(name)
if seen ~= '' and known and call('ZSCORE', index .. ':updated', member_of(known, name)) ~= seen then return 'passed' end
if place == '' then
    drop(name)
else
    put(name, place, owner, updated, expires)
end
return 'ok'
"""

# One page of entries: member, time of the last write, head and newest message of each; or the names of threads that may
# have expired. Heads are read here when what their keys begin with is given.
_PAGE = """
index = KEYS[1]
local found = call('GET', index .. ':format')
if found and tonumber(found) ~= FORMAT then return say('format', found) end
local set, descending, above, below = index .. take(), take() == '1', take(), take()
local offset, count, heads, preview = tonumber(take()), tonumber(take()), take(), take() == '1'
local moment = string.format('%.0f', milliseconds())
local expired = call('ZRANGEBYSCORE', index .. ':expires', '-inf', moment, 'LIMIT', 0, 500)
if #expired > 0 then
    if heads ~= '' then
        for _, name in ipairs(expired) do
            local head = heads .. name .. '}:head'
            local moment = call('HGET', head, 'expires_at')
            if moment then
                call('ZADD', index .. ':expires', moment, name)
            elseif call('EXISTS', head) == 1 then
                call('ZREM', index .. ':expires', name)
            else
                drop(name)
            end
        end
        return 'again'
    end
    return say('expired', unpack(expired))
end
-- How many members lie before a bound "score:place", with the one at it or without.
local function before(bound, with)
    local colon = string.find(bound, ':', 1, true)
    local score, place = string.sub(bound, 1, colon - 1), tonumber(string.sub(bound, colon + 1))
    local low = call('ZCOUNT', set, '-inf', '(' .. score)
    local high = low + call('ZCOUNT', set, score, score)
    while low < high do
        local middle = math.floor((low + high) / 2)
        local other = tonumber(string.sub(call('ZRANGE', set, middle, middle)[1], 1, 15))
        if other < place or (with and other == place) then low = middle + 1 else high = middle end
    end
    return low
end
local first = above ~= '' and before(above, true) or 0
local last = (below ~= '' and before(below, false) or call('ZCARD', set)) - 1
local page = {}
if first + offset <= last then
    count = math.min(count, last - first - offset + 1)
    if descending then
        local start = call('ZCARD', set) - 1 - last + offset
        page = call('ZREVRANGE', set, start, start + count - 1, 'WITHSCORES')
    else
        page = call('ZRANGE', set, first + offset, first + offset + count - 1, 'WITHSCORES')
    end
end
local rows = {'ok'}
for i = 1, #page, 2 do
    local text, newest, updated = '', '', page[i + 1]
    if heads == '' then
        updated = call('ZSCORE', index .. ':updated', page[i]) or ''
    else
        local tag = heads .. string.sub(page[i], 17) .. '}:'
        text = head_text(tag .. 'head', tag .. 'state')
        if preview then newest = call('ZRANGE', tag .. 'live', -1, -1)[1] or '' end
    end
    rows[#rows + 1], rows[#rows + 2], rows[#rows + 3], rows[#rows + 4] = page[i], updated, text, newest
end
return table.concat(rows, '\\n')
"""

_CHECK = """
return call('GET', KEYS[1] .. ':format') or ''
"""


def script_of(*parts: str, common: str = COMMON) -> Script:
    encoded = "".join((common, *parts)).encode()
    return Script(encoded, sha1(encoded, usedforsecurity=False).hexdigest().encode())


TOUCH = script_of(INDEX, _TOUCH)
SETTLE = script_of(INDEX, _SETTLE)
PAGE = script_of(INDEX, HEAD, _PAGE)
CHECK = script_of(_CHECK)
