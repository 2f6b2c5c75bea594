"""What nearly every append is, in Lua: new messages for a thread that is there, counts, and keys of its state.

It stands before the script for everything an append may be asked for (`_redis_scripts.py`, which says what lies in the
keys) and leaves to that whatever is not so. It has no functions: to define those of the other script takes the server
a quarter of the time in which all is done here.
"""

from __future__ import annotations

from memexllm.storage._redis_index import FORMAT

QUICK = """
do
    local call, head, index, lines = redis.call, KEYS[1], KEYS[2], ARGV[1]
    local token, done_for, now, name, expected, user, begin = string.match(lines,
        '^(%x+)\\n(%d+)\\n(%-?%d+)\\n([^\\n]+)\\n\\n\\n(%-?%d*)\\n([^\\n]*)\\nplain\\n()')
    local f = token and call('HMGET', head, 'format', 'tally', 'place', 'owner', 'user', 'expires_at')
    if f and f[1] == '%%FORMAT%%' and not f[6] and (user == f[5] or user == 'null' or user == '') then
        local tag, place, owner = string.sub(head, 1, -5), f[3], f[4]
        local live, done = tag .. 'live', tag .. 'done:' .. token
        local version, seq, updated_at, n_live, n_dead, n_extra, n_state =
            string.match(f[2] or '', '^(%d+),(%d+),(%-?%d+),(%d+),(%d+),(%d+),(%d+)$')
        if version and tonumber(n_live) == call('ZCARD', live) and (expected == '' or expected == version) then
            version = string.format('%d', version + 1)
            if not call('SET', done, version, 'NX', 'PX', done_for) then
                return 'ok\\n' .. call('GET', done) .. '\\n\\n'
            end
            local n_counts, after = string.match(lines, '^1\\n\\n0\\n(%d+)\\n()', begin)
            begin = after or begin + #'0\\n'
            if n_counts then call('HINCRBY', head, 'edits', 1) end
            for _ = 1, n_counts or 0 do
                local at, tokens, key, marks
                at, tokens, begin = string.match(lines, '^(%d+)\\n([^\\n]*)\\n()', begin)
                key, marks = live, ''
                local text = call('ZRANGEBYSCORE', key, at, at)[1]
                if not text then
                    key, marks = tag .. 'dead', '"superseded":true,'
                    text = call('ZRANGEBYSCORE', key, at, at)[1]
                end
                if text then
                    local rest = string.sub(text, (string.find(text, '"seq":', 1, true)))
                    call('ZREM', key, text)
                    call('ZADD', key, at, '{' .. marks .. '"tokens":' .. tokens .. ',' .. rest)
                end
            end
            local first, texts, beside, n, m, n_messages = seq, {}, {}, 0, 0, nil
            n_messages, begin = string.match(lines, '^(%d+)\\n()', begin)
            for _ = 1, n_messages do
                local own, text_end = string.format('%d', seq), string.find(lines, '\\n', begin, true)
                local beside_end = string.find(lines, '\\n', text_end + 1, true)
                local stop = string.find(lines, '\\n', beside_end + 1, true)
                local marks, text = string.sub(lines, beside_end + 1, stop - 1), string.sub(lines, begin, text_end - 1)
                texts[n + 1], texts[n + 2], n = own, '{' .. marks .. '"seq":' .. own .. ',' .. text, n + 2
                if beside_end > text_end + 1 then
                    beside[m + 1], beside[m + 2] = own, string.sub(lines, text_end + 1, beside_end - 1)
                    m = m + 2
                end
                begin, seq = stop + 1, seq + 1
            end
            if n > 0 then call('ZADD', live, unpack(texts)) end
            if m > 0 then call('HSET', tag .. 'extra', unpack(beside)) end
            local n_keys, key, n_new, text, at, more
            n_keys, begin = string.match(lines, '^(%d+)\\n?()', begin)
            for _ = 1, n_keys do
                key, n_new, text, begin = string.match(lines, '^([^\\n]*)\\n(%d+)\\n([^\\n]*)\\n?()', begin)
                for _ = 1, n_new do
                    at, more, begin = string.match(lines, '^(%d+)\\n([^\\n]*)\\n?()', begin)
                    text = text .. string.format('%d', first + at) .. more
                end
                n_state = n_state + call('HSET', tag .. 'state', key, text)
            end
            call('HSET', head, 'tally', string.format('%d,%d,%s,%d,%s,%d,%d',
                version, seq, now, n_live + n / 2, n_dead, n_extra + m / 2, n_state))
            if index then
                local member = string.rep('0', 15 - #place) .. place .. ':' .. name
                local of_user = index .. ':user:' .. owner
                local added = call('ZADD', index .. ':updated', now, member)
                if owner ~= '' then added = added + call('ZADD', of_user .. ':updated', now, member) end
                if added > 0 then
                    call('HSET', index .. ':entries', name, place .. ':' .. owner)
                    call('ZADD', index .. ':created', place, member)
                    if owner ~= '' then call('ZADD', of_user .. ':created', place, member) end
                end
            end
            return 'ok\\n' .. version .. '\\n\\n' .. (tonumber(updated_at) > tonumber(now) and 'back' or '')
        end
    end
end
""".replace("%%FORMAT%%", str(FORMAT))
