
-- a: the units; b: the period.
-- A list of TIME COUNT: until then so many were taken, counted from an arbitrary beginning. The first entry says what the
-- others are counted from. Times and counts only grow, so that any of them is found in a few steps.
function KINDS.log()
  local log = {}

  local function entry(l, index)
    local known = l.known[index]
    if not known then
      local text = redis.call('LINDEX', l.key, index)
      local at, count = string.match(text or '', '^(%d+) (%d+)$')
      known = { whole(at), whole(count) }
      l.known[index] = known
    end
    return known
  end

  -- The first of the entries that count whose time (1) or count (2) is above a bound: the length where none is.
  local function above(l, what, bound)
    local low, high, step = l.first, l.first + 1, 1
    while high < l.length and entry(l, high)[what] <= bound do
      low, high, step = high, high + step, step * 2
    end
    high = math.min(high, l.length)
    while high - low > 1 do
      local middle = math.floor((low + high) / 2)
      if entry(l, middle)[what] <= bound then low = middle else high = middle end
    end
    return high
  end

  function log.load(l)
    l.at, l.length, l.known = now, redis.call('LLEN', l.key), {}
    l.first, l.base, l.last, l.added = 0, 0, 0, 0
    if l.length == 0 then return end
    local newest
    l.base, newest = entry(l, 0)[2], entry(l, l.length - 1)
    l.last = newest[2]
    if newest[1] - now > l.b then
      l.added, l.length, l.base, l.last, l.anew = l.last - l.base, 0, 0, 0, true
    else
      l.at = math.max(newest[1], now)
      local counts = above(l, 1, l.at - l.b)
      if counts > 1 then
        l.first = counts - 1
        l.base = entry(l, l.first)[2]
      end
    end
    local sum = l.last - l.base + l.added
    if sum < 0 or sum > l.a then error(FOREIGN) end
  end

  function log.free(l)
    return l.a - (l.last - l.base + l.added)
  end

  function log.take(l, units)
    l.added = l.added + units
  end

  function log.back(l, units)
    local kept = l.last - l.base
    if units >= kept then
      l.added = math.max(l.added - (units - kept), 0)
      l.base, l.first = l.last, math.max(l.length - 1, 0)
    else
      l.base = l.base + units
      l.first, l.moved = above(l, 2, l.base) - 1, true
    end
  end

  function log.wait(l, units)
    local need = l.last - l.base + l.added + units - l.a
    if need <= 0 then return 0 end
    if need > l.last - l.base then return l.at + l.b - now end
    return entry(l, above(l, 2, l.base + need - 1))[1] + l.b - now
  end

  function log.store(l)
    if l.last - l.base + l.added == 0 then
      if l.length > 0 or l.anew then redis.call('DEL', l.key) end
      return
    end
    if l.anew then redis.call('DEL', l.key) end
    if l.length == 0 then
      redis.call('RPUSH', l.key, digits(l.at) .. ' 0')
    elseif l.first > 0 then
      redis.call('LTRIM', l.key, digits(l.first), '-1')
    end
    if l.moved then redis.call('LSET', l.key, '0', digits(l.at) .. ' ' .. digits(l.base)) end
    if l.added > 0 then
      redis.call('RPUSH', l.key, digits(l.at) .. ' ' .. digits(l.last + l.added))
      redis.call('PEXPIRE', l.key, ttl(l.at + l.b - now))
    end
  end

  return log
end
