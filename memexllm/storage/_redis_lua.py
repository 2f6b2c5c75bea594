"""What the scripts of `_redis_scripts.py` are put together from, in Lua.

Defining a function takes Lua about as long as a short command takes: a script has those it needs.
"""

from __future__ import annotations

THREAD = """
local head = KEYS[1]
local tag = string.sub(head, 1, -5)
local state, live, dead, extra = tag .. 'state', tag .. 'live', tag .. 'dead', tag .. 'extra'
local function counted()
    return call('ZCARD', live) .. ',' .. call('ZCARD', dead) .. ',' .. call('HLEN', extra) .. ',' .. call('HLEN', state)
end
local function sizes_of(tally) return string.match(tally or '', '(%d+,%d+,%d+,%d+)$') or '' end
local function torn(tally) return say('torn', sizes_of(tally), counted()) end
-- Why the thread cannot be used, or nothing.
local function refusal(format, tally)
    if tonumber(format) ~= FORMAT then return say('format', format) end
    if sizes_of(tally) ~= counted() then return torn(tally) end
end
"""

TALLY = """
-- How many items the parts hold is kept along with what is done to them: what was missing before stays missed.
local version, next_seq, updated_at, n_live, n_dead, n_extra, n_state = 0, 0, nil, 0, 0, 0, 0
local function load_tally(tally)
    local a, b, c, d, e, f, g =
        string.match(tally or '', '^(%d+),(%d+),(%-?%d+),(%d+),(%d+),(%d+),(%d+)$')
    version, next_seq, updated_at = tonumber(a), tonumber(b), c
    n_live, n_dead, n_extra, n_state = tonumber(d), tonumber(e), tonumber(f), tonumber(g)
    return a
end
local function tally_at(now)
    return table.concat({version, next_seq, now, n_live, n_dead, n_extra, n_state}, ',')
end
"""

MARKING = """
-- Where what no write changes begins in a text.
local function begin_of(text) return (string.find(text, '"seq":', 1, true)) end
local function supersede(text, seq)
    call('ZREM', live, text)
    call('ZADD', dead, seq, '{"superseded":true,' .. string.sub(text, 2))
    n_live, n_dead = n_live - 1, n_dead + 1
end
"""

FINDING = """
-- The newest message of an id, which `needle` ends with: the key it lies in, its text and its seq. What is looked for
-- is nearly always the last message.
local function find_in(key, needle, above)
    local start = 0
    while true do
        local page = call('ZREVRANGEBYSCORE', key, '+inf', above, 'WITHSCORES', 'LIMIT', start, 100)
        for i = 1, #page, 2 do
            local id = string.find(page[i], ',', begin_of(page[i]), true) + 1
            if string.sub(page[i], id, id + #needle - 1) == needle then return page[i], page[i + 1] end
        end
        if #page < 200 then return end
        start = start + 100
    end
end
local function find(needle)
    local text, seq = find_in(live, needle, '-inf')
    local other, other_seq = find_in(dead, needle, seq and '(' .. seq or '-inf')
    if other then return dead, other, other_seq end
    return text and live, text, seq
end
"""

TAKING = """
-- `next_seq` is given for messages that get the next ones, else each comes with its own. A message comes as its text
-- without the first brace, its extra and its marks.
local function take_messages(n_messages, next_seq)
    for first = 1, n_messages, 500 do
        local more_live, more_extra, n_here, n_beside = {}, {}, 0, 0
        for i = first, math.min(first + 499, n_messages) do
            local seq = next_seq and next_seq + i - 1 or take()
            local text, beside, marks = take(), take(), take()
            if marks == '' then
                text = '{"seq":' .. seq .. ',' .. text
            else
                text = '{' .. marks .. '"seq":' .. seq .. ',' .. text
            end
            if string.sub(marks, 1, 13) == '"superseded":' then
                call('ZADD', dead, seq, text)
                n_dead = n_dead + 1
            else
                more_live[n_here + 1], more_live[n_here + 2], n_here = seq, text, n_here + 2
            end
            if beside ~= '' then
                more_extra[n_beside + 1], more_extra[n_beside + 2], n_beside = seq, beside, n_beside + 2
            end
        end
        if n_here > 0 then call('ZADD', live, unpack(more_live)) end
        if n_beside > 0 then call('HSET', extra, unpack(more_extra)) end
        n_live, n_extra = n_live + n_here / 2, n_extra + n_beside / 2
    end
end
local function take_state(first)
    for _ = 1, tonumber(take()) do
        local key, n_new, text = take(), tonumber(take()), take()
        for _ = 1, n_new do text = text .. (first + tonumber(take())) .. take() end
        n_state = n_state + call('HSET', state, key, text)
    end
end
"""

DROPPING = """
-- Delete for good what lies before the newest `keep` live messages.
local function drop_oldest(keep)
    if n_live <= keep then return end
    call('HINCRBY', head, 'edits', 1)
    local first = call('ZRANGE', live, n_live - keep, n_live - keep, 'WITHSCORES')[2]
    for _, key in ipairs({live, dead}) do
        local old = call('ZRANGEBYSCORE', key, '-inf', '(' .. first, 'WITHSCORES')
        for i = 2, #old, 2 do n_extra = n_extra - call('HDEL', extra, old[i]) end
        local gone = call('ZREMRANGEBYSCORE', key, '-inf', '(' .. first)
        if key == live then n_live = n_live - gone else n_dead = n_dead - gone end
    end
end
"""

EXPIRING = """
-- The keys expire together, so that none is left without the others.
local function expire(ttl, before)
    local moment = before
    if ttl ~= '' then moment = string.format('%.0f', milliseconds() + tonumber(ttl)) end
    if moment then
        call('HSET', head, 'expires_at', moment)
        for _, key in ipairs({head, state, live, dead, extra}) do call('PEXPIREAT', key, moment) end
    end
    return moment or ''
end
"""

NOTING = """
-- What every write is given first: the name of the key in which it notes that it was done, and for how long.
local done, done_for = tag .. 'done:' .. take(), take()
index = KEYS[2]
-- Note the result of a write; what it was when the write was done before.
local function note(result)
    if not call('SET', done, result, 'NX', 'PX', done_for) then return say('ok', call('GET', done), '', '') end
end
-- A write is refused unless it was done before.
local function refuse(...)
    local result = call('GET', done)
    return result and say('ok', result, '', '') or say(...)
end
"""
