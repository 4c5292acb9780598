
-- a: the burst; b and c: from one unit to the next, in microseconds and nanoseconds.
-- A string: when everything that was taken will have come back, as MICROSECONDS.NANOSECONDS.
-- Here it is kept as a distance from now, which is at most what the burst costs.
function KINDS.gcra()
  local gcra = {}

  local function cost(l, units)
    local nanos = units * l.c
    local carry = math.floor(nanos / 1000)
    return units * l.b + carry, nanos - carry * 1000
  end

  function gcra.load(l)
    l.micros, l.nanos = 0, 0
    l.whole, l.rest = cost(l, l.a)
    local text = redis.call('GET', l.key)
    if not text then return end
    local micros, nanos = string.match(text, '^(%d+)%.(%d%d%d)$')
    if not micros then error(FOREIGN) end
    micros, nanos = micros - now, tonumber(nanos)
    if micros < 0 then return end
    if micros > l.whole or micros == l.whole and nanos > l.rest then
      micros, nanos = l.whole, l.rest
      l.changed = true
    end
    l.micros, l.nanos = micros, nanos
  end

  function gcra.free(l)
    local micros, nanos = l.whole - l.micros, l.rest - l.nanos
    if nanos < 0 then
      micros, nanos = micros - 1, nanos + 1000
    end
    if l.c == 0 then return math.floor(micros / l.b) end
    -- This division is of fractions, and may be off by one.
    local units = math.floor((micros + nanos / 1000) / (l.b + l.c / 1000))
    local function fits(some)
      local whole_part, rest = cost(l, some)
      return whole_part < micros or whole_part == micros and rest <= nanos
    end
    if not fits(units) then return units - 1 end
    if fits(units + 1) then return units + 1 end
    return units
  end

  local function move(l, micros, nanos)
    local carry = math.floor(nanos / 1000)
    l.micros, l.nanos = micros + carry, nanos - carry * 1000
    if l.micros < 0 then
      l.micros, l.nanos = 0, 0
    end
    l.changed = true
  end

  function gcra.take(l, units)
    local micros, nanos = cost(l, units)
    move(l, l.micros + micros, l.nanos + nanos)
  end

  function gcra.back(l, units)
    local micros, nanos = cost(l, math.min(units, l.a))
    move(l, l.micros - micros, l.nanos - nanos)
  end

  function gcra.wait(l, units)
    local micros, nanos = cost(l, units)
    micros, nanos = l.micros + micros - l.whole, l.nanos + nanos - l.rest
    return math.max(micros + math.ceil(nanos / 1000), 0)
  end

  function gcra.store(l)
    if not l.changed then return end
    if l.micros == 0 and l.nanos == 0 then
      redis.call('DEL', l.key)
    else
      local text = string.format('%.0f.%03d', now + l.micros, l.nanos)
      redis.call('SET', l.key, text, 'PX', ttl(l.micros + 1))
    end
  end

  return gcra
end
