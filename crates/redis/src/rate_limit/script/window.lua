
-- a: the units; b: the period; c: into how many parts it is cut.
-- A hash: the number of the newest part, counted from 1970; the sum of all parts that count; and what was taken in each
-- of them, under its number modulo c + 1. A part counts until it has left the period as a whole, so c + 1 do.
function KINDS.window()
  local window = {}

  local function part_at(l, at)
    local periods = math.floor(at / l.b)
    return periods * l.c + math.floor((at - periods * l.b) * l.c / l.b)
  end

  -- When a part does not count any more.
  local function end_of(l, part)
    local later = part + l.c + 1
    local periods = math.floor(later / l.c)
    return periods * l.b + math.ceil((later - periods * l.c) * l.b / l.c)
  end

  local function field(l, part)
    return digits(part % (l.c + 1))
  end

  -- All that counts came in this part.
  local function anew(l, part, sum)
    l.part, l.oldest, l.sum, l.taken, l.anew = part, part, sum, { [part] = sum }, true
  end

  function window.load(l)
    local part = part_at(l, now)
    local got = redis.call('HMGET', l.key, 'part', 'sum', field(l, part))
    if not got[1] and not got[2] then
      if redis.call('EXISTS', l.key) == 1 then error(FOREIGN) end
      return anew(l, part, 0)
    end
    l.exists = true
    local newest, sum = whole(got[1]), whole(got[2])
    if sum > l.a then error(FOREIGN) end
    if newest - part > l.c then return anew(l, part, sum) end
    if part - newest > l.c then return anew(l, part, 0) end
    local units = got[3]
    if newest > part then
      part, units = newest, redis.call('HGET', l.key, field(l, newest))
    end
    l.part, l.newest, l.oldest, l.sum, l.taken, l.set = part, newest, part - l.c, sum, {}, {}
    l.gone = {}
    for leaving = newest - l.c, part - l.c - 1 do
      l.gone[#l.gone + 1] = field(l, leaving)
    end
    if #l.gone == 0 then
      l.taken[part] = units and whole(units) or 0
      l.kept = l.taken[part] > 0
      return
    end
    l.taken[part] = 0
    for _, left in ipairs(redis.call('HMGET', l.key, unpack(l.gone))) do
      l.sum = l.sum - (left and whole(left) or 0)
    end
    if l.sum < 0 then error(FOREIGN) end
  end

  -- What was taken in a part. All older ones are known.
  local function in_part(l, part)
    local known = l.taken[part]
    if known then return known end
    if part > l.part then error(FOREIGN) end
    -- In the places of later ones is what has left.
    if l.all or part > l.newest then return 0 end
    local last = math.min(l.newest, l.part - 1)
    if not l.begun then
      -- Mostly the first few are enough.
      l.begun = true
      local fields = {}
      last = math.min(last, part + 3)
      for next = part, last do
        fields[#fields + 1] = field(l, next)
      end
      for at, units in ipairs(redis.call('HMGET', l.key, unpack(fields))) do
        l.taken[part + at - 1] = units and whole(units) or 0
      end
      return l.taken[part]
    end
    l.all = true
    local got = redis.call('HGETALL', l.key)
    for at = 1, #got, 2 do
      local place = tonumber(got[at])
      local of = place and l.newest - (l.newest - place) % (l.c + 1)
      if of and of >= part and of < l.part then l.taken[of] = whole(got[at + 1]) end
    end
    return l.taken[part] or 0
  end

  function window.free(l)
    return l.a - l.sum
  end

  function window.take(l, units)
    l.taken[l.part] = l.taken[l.part] + units
    l.sum, l.changed = l.sum + units, true
  end

  function window.back(l, units)
    units = math.min(units, l.sum)
    while units > 0 do
      local back = math.min(in_part(l, l.oldest), units)
      if back > 0 then
        l.taken[l.oldest] = l.taken[l.oldest] - back
        l.sum, l.changed, l.need = l.sum - back, true, nil
        if l.set then l.set[l.oldest] = true end
        units = units - back
      end
      if units > 0 then l.oldest = l.oldest + 1 end
    end
  end

  function window.wait(l, units)
    local need = l.sum + units - l.a
    if need <= 0 then return 0 end
    -- Those who are refused one after the other wait for the same part.
    if l.need ~= need then
      local part = l.oldest
      local left = in_part(l, part)
      while left < need do
        part = part + 1
        left = left + in_part(l, part)
      end
      l.need, l.wait = need, end_of(l, part) - now
    end
    return l.wait
  end

  function window.store(l)
    if l.sum == 0 then
      if l.exists then redis.call('DEL', l.key) end
      return
    end
    if l.anew then
      if l.exists then redis.call('DEL', l.key) end
    elseif #l.gone > 0 then
      redis.call('HDEL', l.key, unpack(l.gone))
    elseif not l.changed then
      return
    end
    local set = { 'part', digits(l.part), 'sum', digits(l.sum) }
    for part in pairs(l.set or {}) do
      if l.taken[part] == 0 then
        redis.call('HDEL', l.key, field(l, part))
      elseif part ~= l.part then
        set[#set + 1] = field(l, part)
        set[#set + 1] = digits(l.taken[part])
      end
    end
    local units = l.taken[l.part]
    if units > 0 then
      set[#set + 1] = field(l, l.part)
      set[#set + 1] = digits(units)
    end
    redis.call('HSET', l.key, unpack(set))
    -- What was taken before in the same part has set it already.
    if units > 0 and not l.kept then
      redis.call('PEXPIRE', l.key, ttl(end_of(l, l.part) - now))
    end
  end

  return window
end
