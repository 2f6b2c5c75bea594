"""Reading records on a Redis server, as scripts: each answers from one moment. The keys are those of `_redis_writes`.

A filter by user, kind, agent and thread is decided by the server, in one round trip. Of any other the server tells the
candidates with the write each was changed by, and what is read of the chosen ones afterwards is `again` when one of
them has changed since.
"""

from __future__ import annotations

from memexllm.memory._redis_writes import script

# Whose records are meant ('*' for everyone's) and by which marks; the numbers that are, in the order of adding.
_SCOPE = """
local scope, marks = take(), {}
for i = 1, number() do marks[i] = take() end
local function owners() return scope == '*' and call('SMEMBERS', tag .. ':users') or {scope} end
local function lists_of(owner)
    local lists = {}
    for i, each in ipairs(marks) do lists[i] = tag .. ':of:' .. owner .. ':' .. each end
    if #lists == 0 then lists[1] = tag .. ':of:' .. owner end
    return lists
end
local function size_of(owner)
    local lists = lists_of(owner)
    if #lists == 1 then return call('ZCARD', lists[1]) end
    return call('ZINTERCARD', #lists, unpack(lists))
end
local function size()
    local total = 0
    for _, owner in ipairs(owners()) do total = total + size_of(owner) end
    return total
end
local function younger(a, b) return tonumber(a) < tonumber(b) end
local function numbers(offset, limit)
    local lists = scope == '*' and #marks == 0 and {tag .. ':all'} or scope ~= '*' and lists_of(scope) or {}
    if #lists == 1 then return call('ZRANGE', lists[1], offset, offset + limit - 1) end
    local all, some = {}, {}
    for _, owner in ipairs(owners()) do
        local of_owner = lists_of(owner)
        local found = #of_owner == 1 and call('ZRANGE', of_owner[1], 0, -1)
            or call('ZINTER', #of_owner, unpack(of_owner))
        for _, n in ipairs(found) do all[#all + 1] = n end
    end
    table.sort(all, younger)
    for i = offset + 1, math.min(offset + limit, #all) do some[#some + 1] = all[i] end
    return some
end
"""

# A record is left by the sieve when its metadata holds one of each group of pieces; its fields that are asked for are
# told.
_SIFTING = """
local groups, names, n_fields = {}, {'writes'}, 0
for i = 1, number() do
    groups[i] = {}
    for j = 1, number() do groups[i][j] = take() end
end
n_fields = number()
for i = 1, n_fields do names[i + 1] = take() end
if #groups > 0 then names[#names + 1] = 'metadata' end
local function holds_one(metadata, pieces)
    for _, piece in ipairs(pieces) do
        if string.find(metadata, piece, 1, true) then return true end
    end
end
local function left(got)
    for _, pieces in ipairs(groups) do
        if not holds_one(got[#names], pieces) then return false end
    end
    return true
end
"""

_SEE = """
local answer = redis.pcall('VCARD', vectors(''))
if type(answer) ~= 'table' then return {'ok'} end
local info = redis.pcall('INFO', 'server')
return {'without', answer['err'], type(info) == 'string' and info or ''}
"""

_COUNT = "return {'ok', size()}"

_PAGE = """
local offset, limit, rows = number(), number(), {}
for i, n in ipairs(numbers(offset, limit)) do
    rows[i] = call('HGETALL', record(n))
    if #rows[i] == 0 then return {'torn', n} end
end
return {'ok', rows, size()}
"""

_SIFT = """
local rows = {}
for _, n in ipairs(numbers(0, 1e15)) do
    local got = call('HMGET', record(n), unpack(names))
    if not got[1] then return {'torn', n} end
    if left(got) then
        rows[#rows + 1] = n
        for i = 1, n_fields + 1 do rows[#rows + 1] = got[i] end
    end
end
return {'ok', rows}
"""

_FETCH = """
local rows = {}
for i = 1, number() do
    local n, writes = take(), take()
    rows[i] = call('HGETALL', record(n))
    if call('HGET', record(n), 'writes') ~= writes then return {'again'} end
end
return {'ok', rows}
"""

_FETCH_BY_ID = """
local rows = {}
for i = 1, number() do
    local n = call('HGET', tag .. ':ids', take())
    rows[i] = n and call('HGETALL', record(n)) or {}
    if n and #rows[i] == 0 then return {'torn', n} end
end
return {'ok', rows}
"""

# The vectors of records, as float32 numbers.
_VECTORS = """
local dimensions, rows = take(), {}
local refused = unlike(dimensions)
if refused then return refused end
for i = 1, number() do
    local n, writes = take(), take()
    local got = call('HMGET', record(n), 'writes', 'owner')
    if got[1] ~= writes then return {'again'} end
    local vector = call('VEMB', vectors(got[2]), n, 'RAW')
    if not vector then return {'torn', n} end
    rows[i] = vector[2]
end
return {'ok', rows}
"""

# The nearest of each user, those that are as near as the last one wanted all among them, so that ties are broken by age
# and not by chance. The server keeps what it finds in a sorted list, for which a long `COUNT` takes time by its square:
# so more are asked for only when they are needed. Sets of many are searched through their graph, which may miss some.
_NEAREST = """
local dimensions, vector, expression, offset, limit = take(), take(), take(), number(), number()
local least, exact_up_to = number(), number()
if not call('HGET', state, 'dimensions') then return {'ok', 0, {}} end
local refused = unlike(dimensions)
if refused then return refused end
local function similarity(score) return 2 * tonumber(score) - 1 end
local function asked(key, count, exact)
    local ask = {'VSIM', key, 'FP32', vector, 'WITHSCORES', 'COUNT', text(count)}
    if exact then
        ask[8] = 'TRUTH'
    else
        ask[8], ask[9] = 'EF', text(math.min(1000000, math.max(count, 500)))
    end
    if expression ~= '' then
        ask[#ask + 1], ask[#ask + 2] = 'FILTER', expression
    end
    return call(unpack(ask))
end
local function nearest_of(key, n_meant)
    local wanted, exact = math.min(n_meant, offset + limit), least or call('VCARD', key) <= exact_up_to
    local count = math.min(n_meant, wanted + 16)
    while true do
        local reply = asked(key, count, exact)
        local last = reply[2 * count]
        if not last then
            if exact then return reply end
            exact = true
        elseif count == n_meant or least and similarity(last) < least then
            return reply
        elseif not least and reply[2 * wanted] ~= last then
            return reply
        else
            count = math.min(n_meant, 4 * count)
        end
    end
end
local found, total = {}, 0
for _, owner in ipairs(owners()) do
    local n_meant = size_of(owner)
    total = total + n_meant
    local reply = n_meant > 0 and nearest_of(vectors(owner), n_meant) or {}
    for i = 1, #reply, 2 do
        if not least or similarity(reply[i + 1]) >= least then
            found[#found + 1] = {reply[i], reply[i + 1], tonumber(reply[i]), tonumber(reply[i + 1])}
        end
    end
end
table.sort(found, function(a, b)
    if a[4] ~= b[4] then return a[4] > b[4] end
    return a[3] < b[3]
end)
"""

_NEAREST_PAGE = """
local rows = {}
for i = offset + 1, math.min(offset + limit, #found) do
    local fields = call('HGETALL', record(found[i][1]))
    if #fields == 0 then return {'torn', found[i][1]} end
    rows[#rows + 1], rows[#rows + 2] = found[i][2], fields
end
return {'ok', least and #found or total, rows}
"""

_RANKED = """
local rows = {}
for i = 1, #found do
    rows[2 * i - 1], rows[2 * i] = found[i][1], found[i][2]
end
return {'ok', total, rows}
"""

SEE = script(_SEE)
COUNT = script(_SCOPE, _COUNT)
PAGE = script(_SCOPE, _PAGE)
SIFT = script(_SCOPE, _SIFTING, _SIFT)
FETCH = script(_FETCH)
FETCH_BY_ID = script(_FETCH_BY_ID)
VECTORS = script(_VECTORS)
NEAREST = script(_SCOPE, _NEAREST, _NEAREST_PAGE)
RANK = script(_SCOPE, _NEAREST, _RANKED)
