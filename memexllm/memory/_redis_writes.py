"""Records on a Redis server, as scripts. Each is one atomic step, so that no crash leaves half a record.

All keys of a database begin with one hash tag, `{prefix:records}`, and lie in one slot of a cluster:

- `:state`, a hash: `format`, `dimensions` of the vectors, `last` number given, `writes` done; while all is embedded
  again also `again`, and `new_dimensions` of the vectors made so far.
- `:record:<n>`, a hash: the record as `MemoryRecord.to_dict` has it, with its `owner`, `identity` and `marks`, and the
  write it was changed by (`writes`). Numbers tell the order of adding.
- `:ids` and `:said`, hashes: id → number, identity → id.
- `:all` and `:of:<owner>`, sorted sets of the numbers of all and of one user's records, and `:of:<owner>:<mark>` of
  those of one kind, agent or thread, which is what a mark says; `:users`, the set of owners. An owner is a user's name
  as `storage/_redis_keys.py` writes it, empty for nobody.
- `:vectors:<owner>`, a vector set for each user: nobody's search goes through what another said. Vectors are kept as
  they are (`NOQUANT`), and with each its marks, for `FILTER`.
- `:new:<owner>` and `:left`, while all is embedded again: the new vector sets, and the numbers that are not in them.
- `:done:<token>`, the result of a write, for as long as it may be sent again.
"""

from __future__ import annotations

from memexllm.storage._redis_index import Script, script_of

FORMAT = "1"

_COMMON = (
    f"local FORMAT = '{FORMAT}'\n"
    """
local call, state, at = redis.call, KEYS[1], 0
local tag = string.sub(state, 1, -7)
local function take() at = at + 1 return ARGV[at] end
local function number() return tonumber(take()) end
local function text(n) return string.format('%.0f', n) end
local found_format = call('HGET', state, 'format')
if found_format and found_format ~= FORMAT then return {'format', found_format} end
local function record(n) return tag .. ':record:' .. n end
local function vectors(owner) return tag .. ':vectors:' .. owner end
local function fresh(owner) return tag .. ':new:' .. owner end
local function unlike(dimensions, field)
    local stored = call('HGET', state, field or 'dimensions')
    if stored and stored ~= dimensions then return {'dimensions', stored} end
end
"""
)


def script(*parts: str) -> Script:
    return script_of(*parts, common=_COMMON)


_WRITING = """
local done, done_for = tag .. ':done:' .. take(), take()
local before = call('GET', done)
if before then return {'ok', before} end
local function finish(result)
    call('SET', done, result, 'PX', done_for)
    return {'ok', result}
end
local function begin() return text(call('HINCRBY', state, 'writes', 1)) end
local function put(key, n, vector, attributes)
    call('VREM', key, n)
    call('VADD', key, 'FP32', vector, n, 'NOQUANT', 'SETATTR', attributes)
end
local function attributes(marks)
    return '{"kind":"' .. marks[1] .. '","agent":"' .. marks[2] .. '","thread":"' .. marks[3] .. '"}'
end
local function take_marks() return {take(), take(), take()} end
local function mark(owner, marks, n)
    for _, each in ipairs(marks) do call('ZADD', tag .. ':of:' .. owner .. ':' .. each, n, n) end
end
local function unmark(owner, n)
    for each in string.gmatch(call('HGET', record(n), 'marks'), '%S+') do
        call('ZREM', tag .. ':of:' .. owner .. ':' .. each, n)
    end
end
-- The hash of a record, anew.
local function write(n, new, writes)
    call('DEL', record(n))
    call('HSET', record(n), 'owner', new.owner, 'identity', new.identity, 'marks', table.concat(new.marks, ' '),
        'writes', writes, unpack(new.fields))
    call('HSET', tag .. ':said', new.identity, new.id)
end
local function drop(key, n)
    call('VREM', key, n)
    if call('VCARD', key) == 0 then call('DEL', key) end
end
local function take_fields()
    local fields = {}
    for i = 1, 2 * number() do fields[i] = take() end
    return fields
end
"""

_LOOK = """
local ids, said, names, rows, others = {}, {}, {'writes'}, {}, {}
for i = 1, number() do ids[i] = take() end
for i = 1, number() do names[i + 1] = take() end
for i = 1, number() do others[i] = call('HGET', tag .. ':said', take()) end
for i, id in ipairs(ids) do
    local n = call('HGET', tag .. ':ids', id)
    rows[i] = n and {n, unpack(call('HMGET', record(n), unpack(names)))} or false
    if n and not rows[i][2] then return {'torn', n} end
end
return {'ok', rows, others}
"""

_INSERT = """
local dimensions, records = take(), {}
for i = 1, number() do
    local new = {id = take(), identity = take(), owner = take(), vector = take()}
    new.marks, new.fields = take_marks(), take_fields()
    records[i] = new
    if call('HEXISTS', tag .. ':ids', new.id) == 1 or call('HEXISTS', tag .. ':said', new.identity) == 1 then
        return {'again'}
    end
end
local refused = unlike(dimensions)
if refused then return refused end
local writes, last = begin(), call('HINCRBY', state, 'last', #records)
call('HSET', state, 'format', FORMAT, 'dimensions', dimensions)
local again = call('HEXISTS', state, 'again') == 1
for i, new in ipairs(records) do
    local n = text(last - #records + i)
    put(vectors(new.owner), n, new.vector, attributes(new.marks))
    write(n, new, writes)
    call('HSET', tag .. ':ids', new.id, n)
    mark(new.owner, new.marks, n)
    call('ZADD', tag .. ':all', n, n)
    call('ZADD', tag .. ':of:' .. new.owner, n, n)
    call('SADD', tag .. ':users', new.owner)
    if again then call('ZADD', tag .. ':left', n, n) end
end
return finish('')
"""

_REPLACE = """
local dimensions, records = take(), {}
for i = 1, number() do
    local new = {n = take(), writes = take(), id = take(), identity = take(), other = take()}
    new.vector, new.marks, new.fields = take(), take_marks(), take_fields()
    records[i] = new
    local other = call('HGET', tag .. ':said', new.identity)
    if call('HGET', record(new.n), 'writes') ~= new.writes or (other and '=' .. other or '-') ~= new.other then
        return {'again'}
    end
end
local refused = dimensions ~= '0' and unlike(dimensions)
if refused then return refused end
local writes, again = begin(), call('HEXISTS', state, 'again') == 1
-- Two records may take each other's text, so what was said is forgotten first.
for _, new in ipairs(records) do
    new.owner = call('HGET', record(new.n), 'owner')
    call('HDEL', tag .. ':said', call('HGET', record(new.n), 'identity'))
end
for _, new in ipairs(records) do
    local n, known = new.n, attributes(new.marks)
    if new.vector ~= '' then
        put(vectors(new.owner), n, new.vector, known)
        if again then
            drop(fresh(new.owner), n)
            call('ZADD', tag .. ':left', n, n)
        end
    else
        call('VSETATTR', vectors(new.owner), n, known)
        if again then call('VSETATTR', fresh(new.owner), n, known) end
    end
    unmark(new.owner, n)
    mark(new.owner, new.marks, n)
    write(n, new, writes)
end
return finish('')
"""

_REMOVE = """
local gone, of_owner = {}, {}
for i = 1, number() do
    local n, writes = take(), take()
    local got = call('HMGET', record(n), 'writes', 'id', 'identity', 'owner')
    if got[1] ~= writes then return {'again'} end
    gone[i] = {n = n, id = got[2], identity = got[3], owner = got[4]}
    of_owner[got[4]] = (of_owner[got[4]] or 0) + 1
end
begin()
for owner, n_gone in pairs(of_owner) do
    if call('ZCARD', tag .. ':of:' .. owner) == n_gone then
        -- Much faster than to take each one out of the graph.
        call('DEL', vectors(owner), fresh(owner))
        call('SREM', tag .. ':users', owner)
    end
end
for _, old in ipairs(gone) do
    drop(vectors(old.owner), old.n)
    drop(fresh(old.owner), old.n)
    unmark(old.owner, old.n)
    call('DEL', record(old.n))
    call('HDEL', tag .. ':ids', old.id)
    call('HDEL', tag .. ':said', old.identity)
    for _, key in ipairs({':all', ':of:' .. old.owner, ':left'}) do call('ZREM', tag .. key, old.n) end
end
if call('EXISTS', tag .. ':all') == 0 then call('HDEL', state, 'dimensions') end
return finish(#gone)
"""

_BEGIN_AGAIN = """
begin()
call('HSET', state, 'format', FORMAT, 'again', take())
call('HDEL', state, 'new_dimensions')
for _, owner in ipairs(call('SMEMBERS', tag .. ':users')) do call('DEL', fresh(owner)) end
call('DEL', tag .. ':left')
call('ZUNIONSTORE', tag .. ':left', 1, tag .. ':all')
return finish('')
"""

_RUN = """
if call('HGET', state, 'again') ~= take() then return {'overtaken'} end
"""

_LEFT = """
local rows = {}
for i, n in ipairs(call('ZRANGE', tag .. ':left', 0, number() - 1)) do
    rows[i] = call('HMGET', record(n), 'id', 'text')
    if not rows[i][1] then return {'torn', n} end
end
return {'ok', rows}
"""

_KEEP = """
local dimensions = take()
local refused = unlike(dimensions, 'new_dimensions')
if refused then return refused end
begin()
call('HSET', state, 'new_dimensions', dimensions)
for _ = 1, number() do
    local id, said, vector = take(), take(), take()
    local n = call('HGET', tag .. ':ids', id)
    local got = n and call('HMGET', record(n), 'text', 'owner') or {}
    if got[1] == said then
        put(fresh(got[2]), n, vector, call('VGETATTR', vectors(got[2]), n))
        call('ZREM', tag .. ':left', n)
    end
end
return finish('')
"""

_USE = """
if call('EXISTS', tag .. ':left') == 1 then return {'ok', '0'} end
begin()
for _, owner in ipairs(call('SMEMBERS', tag .. ':users')) do call('RENAME', fresh(owner), vectors(owner)) end
local dimensions = call('HGET', state, 'new_dimensions')
if dimensions and call('EXISTS', tag .. ':all') == 1 then
    call('HSET', state, 'dimensions', dimensions)
else
    call('HDEL', state, 'dimensions')
end
call('HDEL', state, 'again', 'new_dimensions')
return finish('1')
"""

LOOK = script(_LOOK)
INSERT = script(_WRITING, _INSERT)
REPLACE = script(_WRITING, _REPLACE)
REMOVE = script(_WRITING, _REMOVE)
BEGIN_AGAIN = script(_WRITING, _BEGIN_AGAIN)
LEFT = script(_RUN, _LEFT)
KEEP = script(_WRITING, _RUN, _KEEP)
USE = script(_WRITING, _RUN, _USE)
