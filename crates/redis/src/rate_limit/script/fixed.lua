
-- a: the units; b: the period.
-- A string: the number of the window, counted from 1970, and what was taken in it.
function KINDS.fixed()
  local fixed = {}

  function fixed.load(l)
    l.window, l.taken = math.floor(now / l.b), 0
    local text = redis.call('GET', l.key)
    if not text then return end
    local window, taken = string.match(text, '^(%d+) (%d+)$')
    window, taken = whole(window), whole(taken)
    if taken > l.a then error(FOREIGN) end
    if window < l.window then return end
    if window == l.window + 1 then
      l.window = window
    elseif window > l.window then
      l.changed = true
    end
    l.taken = taken
  end

  function fixed.free(l)
    return l.a - l.taken
  end

  function fixed.take(l, units)
    l.taken, l.changed = l.taken + units, true
  end

  function fixed.back(l, units)
    l.taken, l.changed = math.max(l.taken - units, 0), true
  end

  function fixed.wait(l, units)
    if units <= l.a - l.taken then return 0 end
    return (l.window + 1) * l.b - now
  end

  function fixed.store(l)
    if not l.changed then return end
    if l.taken == 0 then
      redis.call('DEL', l.key)
    else
      local text = digits(l.window) .. ' ' .. digits(l.taken)
      redis.call('SET', l.key, text, 'PX', ttl((l.window + 1) * l.b - now))
    end
  end

  return fixed
end
