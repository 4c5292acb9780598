
local LONGEST_LEASE = 3600000000
local MOST_NODES = 4096

-- A sorted set: each node, by when it is not there any more.
local function count_nodes(key, nodes)
  local longest = 0
  redis.call('ZREMRANGEBYSCORE', key, '-inf', digits(now))
  -- Of a clock that was ahead.
  redis.call('ZREMRANGEBYSCORE', key, '(' .. digits(now + LONGEST_LEASE), '+inf')
  for node, lease in pairs(nodes) do
    redis.call('ZADD', key, digits(now + lease), node)
    longest = math.max(longest, lease)
  end
  local count = redis.call('ZCARD', key)
  if count > MOST_NODES then
    redis.call('ZREMRANGEBYRANK', key, '0', digits(count - MOST_NODES - 1))
    count = MOST_NODES
  end
  if redis.call('PTTL', key) * 1000 < longest then redis.call('PEXPIRE', key, ttl(longest)) end
  return count
end

local function decide()
  local limits, kinds = {}, {}
  local asks = tonumber(ARGV[1]) * 4 + 2
  for index = 1, tonumber(ARGV[1]) do
    local at = index * 4 - 2
    local a, b, c = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local name = ARGV[at]
    kinds[name] = kinds[name] or KINDS[name]()
    local l = { key = KEYS[index], kind = kinds[name], a = a, b = b, c = c }
    l.kind.load(l)
    limits[index] = l
  end

  local count = 0
  if #KEYS > #limits then
    local nodes = {}
    for at = asks, #ARGV, 5 do
      if ARGV[at + 3] ~= '' then nodes[ARGV[at + 3]] = math.min(tonumber(ARGV[at + 4]), LONGEST_LEASE) end
    end
    count = count_nodes(KEYS[#KEYS], nodes)
  end

  local answer = {}
  for at = asks, #ARGV, 5 do
    local least, most, returned = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local free, wait = math.huge, 0
    for _, l in ipairs(limits) do
      if returned > 0 then l.kind.back(l, returned) end
      free = math.min(free, l.kind.free(l))
    end
    local units = math.min(free, most)
    if units >= least and units > 0 then
      for _, l in ipairs(limits) do l.kind.take(l, units) end
    else
      units = 0
      if least > most then wait = -1 end
      for _, l in ipairs(limits) do
        if least > l.a then wait = -1 end
        if wait >= 0 then wait = math.max(wait, l.kind.wait(l, least)) end
      end
    end
    answer[#answer + 1] = units
    answer[#answer + 1] = free - units
    answer[#answer + 1] = ARGV[at + 3] ~= '' and count or 0
    answer[#answer + 1] = wait
  end

  for _, l in ipairs(limits) do l.kind.store(l) end
  return answer
end

local ok, answer = pcall(decide)
if ok then return answer end
local text = type(answer) == 'table' and answer.err or tostring(answer)
if answer == FOREIGN or string.find(text, 'WRONGTYPE', 1, true) then return { -1 } end
return redis.error_reply(text)
