
-- The arguments from the fifth on: FRESH-FOR STALE-FOR STORES BODY TAG... Where it does not store, `clean` sees to it that
-- nothing is there. Where there is no memory left neither does it, and answers 2: the caller is told of what others write all the
-- same, and may keep it himself.
local function write(version, clean, is_full)
  local code = 1
  if is_full and ARGV[7] == '1' then
    ARGV[7], code = '0', 2
    for index = #ARGV, 9, -1 do ARGV[index] = nil end
  end
  local fresh, stale, stores, body = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1', ARGV[8]
  if stores then
    local parts = { 'bc1', version, digits(now + fresh), digits(stale), digits(number), digits(#ARGV - 8), '' }
    local tags = {}
    for index = 9, #ARGV do tags[#tags + 1] = #ARGV[index] .. ':' .. ARGV[index] end
    local text = table.concat(parts, ';') .. table.concat(tags) .. body
    as_own(function() redis.call('SET', KEYS[2], text, 'PX', digits(fresh + stale + GRACE)) end)
  else
    as_own(clean)
  end
  return answer(code)
end

-- Redis holds a script to its limit of memory until the script has written, and GETEX counts as that. This takes memory only in
-- its eyes.
local function is_full()
  local answer = redis.pcall('SETRANGE', KEYS[1], 0, '')
  return type(answer) == 'table' and answer.err and string.find(answer.err, 'OOM', 1, true)
end

-- The number of the last invalidation of any of the tags. One that is not there, and may have been, counts as invalidated just
-- now, unless it is known that it was not since a number.
local function touch_tags(tag_prefix, since, list)
  local life, last, listed = tonumber(ARGV[5]) + tonumber(ARGV[6]) + GRACE, 0, nil
  for index = 9, #ARGV do
    local key = tag_prefix .. ARGV[index]
    local at = whole(text_of(key))
    if at then
      last = math.max(last, at)
      if redis.call('PTTL', key) < life then redis.call('PEXPIRE', key, digits(life)) end
    else
      redis.call('SET', key, digits(number), 'PX', digits(life))
      if since then
        listed = listed or listed_since(since, list)
        if not listed then return number end
        for _, tag in ipairs(listed) do
          if tag == ARGV[index] then last = number end
        end
      end
    end
  end
  return last
end

-- VERSION TAG-PREFIX LOCK TOKEN SINCE LIST, and those of `write`. The token and the number are the lease's.
-- 1, 2: as there. 0: it must not be: it was invalidated since the lease began, or the lease is another's.
function operations.fill()
  local token, since, list = table.remove(ARGV, 5), tonumber(table.remove(ARGV, 5)), table.remove(ARGV, 5)
  local full = is_full()
  read_era()
  local is_holder = text_of(ARGV[4]) == token
  if not is_holder then return answer(0) end
  redis.call('DEL', ARGV[4])
  if birth > since then return answer(0) end
  if not full and touch_tags(ARGV[3], since, list) > since then
    -- What that looked at may have had all of KEYS remembered.
    unmark()
    return answer(0)
  end
  -- A value that is loaded is no change that others would have to hear of.
  return write(ARGV[2], delete, full)
end

-- VERSION TAG-PREFIX LOCK, and those of `write`
function operations.put()
  local full = is_full()
  read_era()
  redis.call('DEL', ARGV[4])
  if not full then touch_tags(ARGV[3]) end
  return write(ARGV[2], wipe, full)
end

-- LOCK
function operations.remove()
  read_era()
  redis.call('DEL', ARGV[2])
  wipe()
  return answer(1)
end

-- TAG TAG-PREFIX LIST
function operations.remove_tag()
  read_era()
  number = number + 1
  write_era()
  -- One that is not there has no entry. It may be that of a value which is being loaded: then the list tells.
  redis.call('SET', ARGV[3] .. ARGV[2], digits(number), 'XX', 'KEEPTTL')
  local entry = digits(number) .. ':' .. ARGV[2]
  if type(redis.pcall('LPUSH', ARGV[4], entry)) == 'table' then
    -- It is something else. Whoever missed more than this one forgets everything.
    redis.call('DEL', ARGV[4])
    redis.call('LPUSH', ARGV[4], entry)
  end
  redis.call('LTRIM', ARGV[4], 0, LISTED - 1)
  redis.call('PEXPIRE', ARGV[4], LISTED_FOR)
  remember()
  return answer(1)
end

-- LIST
function operations.clear()
  read_era()
  number = number + 1
  birth = number
  write_era()
  redis.call('DEL', ARGV[2])
  remember()
  return answer(1)
end

-- Of a lock, which is KEYS[1]: TOKEN
function operations.release()
  if text_of(KEYS[1]) ~= ARGV[2] then return { 0, 0, 0 } end
  redis.call('DEL', KEYS[1])
  return { 1, 0, 0 }
end

-- Of a lock, which is KEYS[1]: TOKEN LEASE. 0: it is another's, or nobody's.
function operations.renew()
  if text_of(KEYS[1]) ~= ARGV[2] then return { 0, 0, 0 } end
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return { 1, 0, 0 }
end

return operations[ARGV[1]]()
